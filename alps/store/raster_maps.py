"""Draw the index map of a raster from the masks of its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int, Integer

from alps.rasters.index_map import create_index_map
from alps.store.label_store import LabelStore
from alps.store.quilt import choose_second, strip_at
from alps.store.rasters import StoredRaster, StoredRasters
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.paint import ignore_nodata
from alps.structures.tiles import Tile

#: Draws the index map of an image from its masks, their classes and the ignore index.
Paint = Callable[[Masks, Int[np.ndarray, " N"], int], Integer[np.ndarray, "H W"]]
#: Rows of pixels that are written at a time: a multiple of the blocks of the file, so that no block
#: is written twice.
ROWS = 512

Labels = Integer[np.ndarray, "H W"]


class RasterPainter:
    """Draws index maps of rasters.

    Each window is drawn with its own masks, in which the pieces of an object have one class. Then
    the windows are joined along paths on which neighbours agree (`alps.store.quilt`).

    Args:
        store: the store, with masks, objects and labels.
        paint: draws the index map of an image.
    """

    def __init__(self, store: LabelStore, paint: Paint) -> None:
        self._store, self._paint = store, paint
        self.rasters = StoredRasters(store)

    def write(self, raster: StoredRaster) -> Iterator[int]:
        """Write the index map of a raster.

        Yields:
            The number of finished windows, after each row of windows.
        """
        store = self._store
        categories = store.categories()
        numbers = range(raster.first, raster.first + len(raster.grid.windows))
        statuses = (self.rasters.window(number).status for number in numbers)
        georeference = next((s.georeference for s in statuses if s.georeference), None)
        with (
            store.writing(raster.file) as file,
            create_index_map(
                file.name,
                raster.grid.size,
                georeference or Georeference(),
                [category.color for category in categories],
                store.info.ignore_index,
                names=[category.name for category in categories],
            ) as write,
        ):
            height, width = raster.grid.size
            block = np.empty((ROWS, width), self._dtype)
            top = bottom = 0  # of the rows in the block
            for done, strip in enumerate(self.strips(raster), start=1):
                while len(strip):
                    n = min(len(strip), top + ROWS - bottom)
                    block[bottom - top : bottom - top + n] = strip[:n]
                    strip, bottom = strip[n:], bottom + n
                    if bottom in (top + ROWS, height):
                        write(Tile(0, top, width, bottom), block[: bottom - top])
                        top = bottom
                yield done * raster.grid.columns

    def strips(self, raster: StoredRaster) -> Iterator[Labels]:
        """Yield the index map of a raster from top to bottom, one strip for each row of windows.

        Only one row of windows is in memory: the next strip overwrites the previous one.
        """
        grid = raster.grid
        rows = grid.windows[:: grid.columns]  # the first window of each
        buffer = np.empty((max(row.size[0] for row in rows), grid.size[1]), self._dtype)
        above = buffer[:0]  # the previous row of windows in the strip that both may fill
        top = 0
        for i, row in enumerate(rows):
            labels = buffer[: row.size[0]]
            self._draw_row(raster, i * grid.columns, labels)
            _join(above.T, labels[top - row.y0 :][: len(above)].T, seed=i)
            start = bottom = row.y1
            if i + 1 < len(rows):
                below = rows[i + 1]
                start, bottom = strip_at(
                    grid.core(row).y1,
                    (below.y0, row.y1),
                    (grid.core(row).y0, grid.core(below).y1),
                )
            above = labels[start - row.y0 : bottom - row.y0].copy()
            yield labels[top - row.y0 : start - row.y0]
            top = start

    def _draw_row(self, raster: StoredRaster, first: int, labels: Labels) -> None:
        """Draw and join a row of windows, given the index of its first window."""
        grid = raster.grid
        tiles = grid.windows[first : first + grid.columns]
        labels[:, : tiles[0].x1] = self._window(raster.first + first)
        for i, (a, b) in enumerate(pairwise(tiles), start=first + 1):
            window = self._window(raster.first + i)
            start, stop = strip_at(
                grid.core(a).x1, (b.x0, a.x1), (grid.core(a).x0, grid.core(b).x1)
            )
            _join(labels[:, start:stop], window[:, start - b.x0 : stop - b.x0], seed=i)
            labels[:, start : b.x1] = window[:, start - b.x0 :]

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self._store.info.ignore_index <= 255 else np.uint16)

    def _window(self, number: int) -> Labels:
        """Draw a window by its number in the plan."""
        window, ignore_index = self.rasters.window(number), self._store.info.ignore_index
        valid = window.status.read_valid()
        if window.masks is None or (valid is not None and not valid.any()):
            return np.full(window.tile.size, ignore_index, self._dtype)
        shard = self._store.shard(window.shard)
        area, category_id = shard.objects().area[window.rows], shard.labels()[0][window.rows]
        painted = self._paint(replace(window.masks, area=area), category_id, ignore_index)
        return ignore_nodata(painted, valid, ignore_index)


def _join(first: Labels, second: Labels, seed: int) -> None:
    """Replace the second of two maps of a strip, up to the path between them, by the first."""
    np.copyto(second, first, where=~choose_second(first, second, seed))
