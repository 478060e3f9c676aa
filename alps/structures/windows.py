"""The windows of a raster: overlapping parts that are labelled one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from alps.structures.tiles import Tile


def window_id(raster_id: str, window: Tile) -> str:
    """Return the image id of a window; ids sort by row, then by column.

    >>> window_id("town/ortho", Tile(896, 0, 1920, 1024))
    'town/ortho/000000_000896'
    """
    return f"{raster_id}/{window.y0:06d}_{window.x0:06d}"


def raster_id(image_id: str) -> str:
    """Return the id of the raster of a window; the inverse of `window_id`."""
    return image_id.rpartition("/")[0]


class WindowGrid:
    """The windows of one raster, which form rows and columns.

    Each pixel of the raster lies in the core of exactly one window. Cores end in the middle of the
    overlap of neighbouring windows, so a window sees some context around its core.

    Args:
        windows: all windows of the raster (`alps.structures.tiles.cut_tiles`).

    >>> from alps.structures.tiles import cut_tiles
    >>> grid = WindowGrid(cut_tiles((100, 250), tile_size=128, overlap=16))
    >>> grid.size, [grid.core(window) for window in grid.windows][1]
    ((100, 250), Tile(x0=94, y0=0, x1=155, y1=100))
    >>> grid.overlapping(Tile(0, 0, 90, 100))
    [0, 1]
    """

    def __init__(self, windows: Iterable[Tile]) -> None:
        self.windows: Sequence[Tile] = sorted(windows, key=lambda w: (w.y0, w.x0))
        self._row_spans = sorted({(w.y0, w.y1) for w in self.windows})
        self._column_spans = sorted({(w.x0, w.x1) for w in self.windows})
        self._rows = _cores(self._row_spans)
        self._columns = _cores(self._column_spans)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the raster, px."""
        return self.windows[-1].y1, self.windows[-1].x1

    @property
    def columns(self) -> int:
        """Number of windows in a row."""
        return len(self._column_spans)

    def core(self, window: Tile) -> Tile:
        """Return the core of a window, in pixels of the raster."""
        y0, y1 = self._rows[window.y0]
        x0, x1 = self._columns[window.x0]
        return Tile(x0, y0, x1, y1)

    def overlapping(self, part: Tile) -> list[int]:
        """Return the indices of the windows that overlap a part of the raster, in order."""
        rows, columns = (
            [i for i, (start, stop) in enumerate(spans) if start < last and stop > first]
            for spans, first, last in (
                (self._row_spans, part.y0, part.y1),
                (self._column_spans, part.x0, part.x1),
            )
        )
        return [row * len(self._column_spans) + column for row in rows for column in columns]


def _cores(spans: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Return the core of each span (start, stop) of one axis, by its start."""
    edges = [(stop + start) // 2 for (_, stop), (start, _) in pairwise(spans)]
    bounds = [spans[0][0], *edges, spans[-1][1]]
    return {start: core for (start, _), core in zip(spans, pairwise(bounds), strict=True)}
