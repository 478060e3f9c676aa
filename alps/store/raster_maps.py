"""Draw the index map of a raster from the masks of its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int, Int64, Integer

from alps.rasters.index_map import create_index_map
from alps.store.label_store import LabelStore
from alps.store.objects import ObjectPieces
from alps.store.rasters import StoredRaster, StoredRasters, StoredWindow
from alps.store.shards import ShardSequence
from alps.structures import rle
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.paint import ignore_nodata
from alps.structures.tiles import Tile

#: Draws the index map of an image from its masks, their classes and the ignore index.
Paint = Callable[[Masks, Int[np.ndarray, " N"], int], Integer[np.ndarray, "H W"]]
#: Rows of pixels that are written at a time: a multiple of the blocks of the file, so that no block
#: is written twice.
STRIP = 512


class RasterPainter:
    """Draws index maps of rasters window by window.

    The core of a window shows the masks of all windows that reach into it. Superpixels are drawn
    first, then SAM's masks, large objects before small ones.

    Args:
        store: the store, with masks, objects and labels.
        paint: draws the index map of an image.
    """

    def __init__(self, store: LabelStore, paint: Paint) -> None:
        self._store, self._paint = store, paint
        self.rasters = StoredRasters(store)
        self._labels = ShardSequence(self._read_labels, len(store.plan), self.rasters.cached_shards)

    def write(self, raster: StoredRaster) -> Iterator[int]:
        """Write the index map of a raster.

        Yields:
            The number of finished windows, after each row of windows.
        """
        store = self._store
        colors = [category.color for category in store.categories()]
        windows = range(raster.first, raster.first + len(raster.grid.windows))
        place = next(
            (p for n in windows if (p := self.rasters.window(n).status.georeference)), None
        )
        with (
            store.writing(raster.file) as file,
            create_index_map(
                file.name,
                raster.grid.size,
                place or Georeference(),
                colors,
                store.info.ignore_index,
                names=[category.name for category in store.categories()],
            ) as write,
        ):
            top, rows = 0, []
            for done in range(0, len(windows), raster.grid.columns):
                row = [self.core(raster, n) for n in windows[done : done + raster.grid.columns]]
                rows.append(np.concatenate(row, axis=1))
                is_last = done + raster.grid.columns == len(windows)
                pending = np.concatenate(rows)
                n = len(pending) if is_last else len(pending) // STRIP * STRIP
                if n:
                    write(Tile(0, top, pending.shape[1], top + n), pending[:n])
                top, rows = top + n, [pending[n:]]
                yield done + raster.grid.columns

    def core(self, raster: StoredRaster, number: int) -> Integer[np.ndarray, "h w"]:
        """Return the index map of the core of a window.

        Args:
            raster: the raster.
            number: number of the window in the plan.
        """
        window = self.rasters.window(number)
        ignore_index = self._store.info.ignore_index
        core = raster.grid.core(window.tile).within(window.tile)
        valid = window.status.read_valid()
        if window.masks is None or (valid is not None and not valid.any()):
            return np.full(core.size, ignore_index, np.min_scalar_type(ignore_index))
        masks, category_id = self._visible_masks(raster, window.tile)
        painted = ignore_nodata(self._paint(masks, category_id, ignore_index), valid, ignore_index)
        return painted[core.y0 : core.y1, core.x0 : core.x1]

    def _visible_masks(
        self, raster: StoredRaster, tile: Tile
    ) -> tuple[Masks, Int[np.ndarray, " N"]]:
        """Return the masks of all windows in a tile, cropped to it, and their classes."""
        counts: list[bytes] = []
        areas, classes = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for i in raster.grid.overlapping(tile):
            window = self.rasters.window(raster.first + i)
            if window.masks is None:
                continue
            objects, category_id = self._labels[window.shard]
            shared = tile.within(window.tile)
            index = _visible(window, objects, shared)
            kept = [window.masks.counts[j] for j in index]
            if shared != Tile(0, 0, window.tile.size[1], window.tile.size[0]):
                kept = [rle.crop(code, window.masks.size[0], shared) for code in kept]
            counts += kept
            is_superpixel = np.isnan(window.masks.predicted_iou[index])
            raster_area = raster.grid.size[0] * raster.grid.size[1]
            areas.append(objects.area[window.rows][index] + is_superpixel * raster_area)
            classes.append(category_id[window.rows][index])
        masks = Masks.from_counts(counts, tile.size)
        return replace(masks, area=np.concatenate(areas)), np.concatenate(classes)

    def _read_labels(self, shard: int) -> tuple[ObjectPieces, Int[np.ndarray, " N"]]:
        return self._store.shard(shard).objects(), self._store.shard(shard).labels()[0]


def _visible(window: StoredWindow, objects: ObjectPieces, part: Tile) -> Int64[np.ndarray, " n"]:
    """Return the indices of the masks of a window that are drawn in a part of it.

    Args:
        window: the window.
        objects: objects of the masks of its shard.
        part: the part, in pixels of the window; it may extend beyond it.
    """
    assert window.masks is not None
    x0, y0, x1, y1 = window.masks.xyxy.T
    inside = (x0 < part.x1) & (x1 > part.x0) & (y0 < part.y1) & (y1 > part.y0)
    return np.flatnonzero(inside & objects.kept[window.rows])
