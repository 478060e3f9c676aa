"""Draw the index map of a raster from the masks of its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

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
            pending, top = np.zeros((0, raster.grid.size[1]), np.uint8), 0
            for done, labels in enumerate(self.strips(raster), start=1):
                pending = np.concatenate([pending.astype(labels.dtype, copy=False), labels])
                height = raster.grid.size[0]
                is_last = top + len(pending) == height
                n = len(pending) if is_last else len(pending) // ROWS * ROWS
                if n:
                    write(Tile(0, top, raster.grid.size[1], top + n), pending[:n])
                pending, top = pending[n:], top + n
                yield done * raster.grid.columns

    def strips(self, raster: StoredRaster) -> Iterator[Labels]:
        """Yield the index map of a raster from top to bottom, one strip for each row of windows."""
        grid = raster.grid
        rows = [
            grid.windows[i : i + grid.columns] for i in range(0, len(grid.windows), grid.columns)
        ]
        labels = self._row(raster, 0)
        top = 0  # of the part that is not yielded yet
        for i, (row, below) in enumerate(pairwise(rows), start=1):
            a, b = row[0], below[0]
            first, last = strip_at(
                grid.core(a).y1, (b.y0, a.y1), (grid.core(a).y0, grid.core(b).y1)
            )
            following = self._row(raster, i * grid.columns)
            upper = labels[first - a.y0 : last - a.y0]
            lower = following[first - b.y0 : last - b.y0]
            second = choose_second(upper.T, lower.T, seed=i).T
            joined = np.where(second, lower, upper)
            yield np.concatenate([labels[top - a.y0 : first - a.y0], joined])
            labels, top = following, last
        yield labels[top - rows[-1][0].y0 :]

    def _row(self, raster: StoredRaster, first: int) -> Labels:
        """Return the joined index map of a row of windows, given the index of its first window."""
        grid = raster.grid
        tiles = grid.windows[first : first + grid.columns]
        labels = self._window(raster.first + first)
        parts, left = [], 0
        for i, (a, b) in enumerate(pairwise(tiles), start=1):
            start, stop = strip_at(
                grid.core(a).x1, (b.x0, a.x1), (grid.core(a).x0, grid.core(b).x1)
            )
            following = self._window(raster.first + first + i)
            one, other = (
                labels[:, start - a.x0 : stop - a.x0],
                following[:, start - b.x0 : stop - b.x0],
            )
            second = choose_second(one, other, seed=first + i)
            parts += [labels[:, left - a.x0 : start - a.x0], np.where(second, other, one)]
            labels, left = following, stop
        parts.append(labels[:, left - tiles[-1].x0 :])
        return np.concatenate(parts, axis=1)

    def _window(self, number: int) -> Labels:
        """Draw a window by its number in the plan."""
        window, ignore_index = self.rasters.window(number), self._store.info.ignore_index
        valid = window.status.read_valid()
        if window.masks is None or (valid is not None and not valid.any()):
            dtype = np.uint8 if ignore_index <= 255 else np.uint16
            return np.full(window.tile.size, ignore_index, dtype)
        shard = self._store.shard(window.shard)
        area, category_id = shard.objects().area[window.rows], shard.labels()[0][window.rows]
        painted = self._paint(replace(window.masks, area=area), category_id, ignore_index)
        return ignore_nodata(painted, valid, ignore_index)
