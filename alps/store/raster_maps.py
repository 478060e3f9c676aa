"""Draw the index map of a raster from the masks of its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, Int64, Integer

from alps.rasters.index_map import create_index_map
from alps.store.label_store import LabelStore
from alps.store.objects import ObjectPieces
from alps.store.rasters import CACHED_SHARDS, StoredRaster, StoredRasters, StoredWindow
from alps.store.shards import ShardSequence
from alps.structures import rle
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.paint import ignore_nodata, paint
from alps.structures.tiles import Tile

#: Draws the index map of an image from its masks, their classes and the ignore index.
Paint = Callable[[Masks, Int[np.ndarray, " N"], int], Integer[np.ndarray, "H W"]]
#: Rows of pixels that are written at a time: a multiple of the blocks of the file, so that no block
#: is written twice.
STRIP = 512


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMasks:
    """The masks that are drawn in a window."""

    masks: Masks  # the areas are those of the objects, px
    category_id: Int[np.ndarray, " N"]
    open: Bool[np.ndarray, " N"]  # whether it is an open mask of the window, but no superpixel
    foreign_superpixels: Bool[np.ndarray, " N"]  # whether it is a superpixel of another window


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
        self._labels = ShardSequence(self._read_labels, len(store.plan), CACHED_SHARDS)

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
        window, ignore_index = self.rasters.window(number), self._store.info.ignore_index
        drawn = self._drawn_masks(raster, window.tile)
        painted = self._paint(drawn.masks, drawn.category_id, ignore_index)
        # An open mask ends at the border of its window. Where it meets the superpixels of the next
        # window, they are drawn over it, so that it ends at an edge of the image instead.
        if drawn.foreign_superpixels.any() and drawn.open.any():
            open_on_top = paint(drawn.masks, drawn.open.astype(np.int32), 255) == 1
            superpixels = paint(
                drawn.masks,
                np.where(drawn.foreign_superpixels, drawn.category_id, -1),
                ignore_index,
            )
            over = open_on_top & (superpixels != ignore_index)
            painted[over] = superpixels[over]
        if window.masks is None:
            painted = np.full_like(painted, ignore_index)
        painted = ignore_nodata(painted, window.status.read_valid(), ignore_index)
        core = raster.grid.core(window.tile).within(window.tile)
        return painted[core.y0 : core.y1, core.x0 : core.x1]

    def _drawn_masks(self, raster: StoredRaster, tile: Tile) -> DrawnMasks:
        """Return the masks of all windows that are drawn in a window, cropped to it.

        Args:
            raster: the raster.
            tile: the window.
        """
        counts: list[bytes] = []
        columns: list[tuple[np.ndarray, ...]] = []
        raster_area = raster.grid.size[0] * raster.grid.size[1]
        for i in raster.grid.overlapping(tile):
            window = self.rasters.window(raster.first + i)
            if window.masks is None:
                continue
            objects, category_id = self._labels[window.shard]
            is_foreign, part = window.tile != tile, tile.within(window.tile)
            index = _visible(window, objects, part, is_foreign=is_foreign)
            kept = [window.masks.counts[j] for j in index]
            if is_foreign:
                kept = [rle.crop(code, window.masks.size[0], part) for code in kept]
            counts += kept
            is_superpixel = np.isnan(window.masks.predicted_iou[index])
            columns.append(
                (
                    # Superpixels are drawn first.
                    objects.area[window.rows][index] + is_superpixel * raster_area,
                    category_id[window.rows][index],
                    objects.open[window.rows][index] & ~is_superpixel,
                    is_superpixel & is_foreign,
                )
            )
        if not columns:
            none = np.zeros(0, bool)
            return DrawnMasks(Masks.empty(tile.size), np.zeros(0, np.int32), none, none)
        area, *rest = (np.concatenate(column) for column in zip(*columns, strict=True))
        masks = replace(Masks.from_counts(counts, tile.size), area=area)
        return DrawnMasks(masks, *rest)

    def _read_labels(self, shard: int) -> tuple[ObjectPieces, Int[np.ndarray, " N"]]:
        return self._store.shard(shard).objects(), self._store.shard(shard).labels()[0]


def _visible(
    window: StoredWindow, objects: ObjectPieces, part: Tile, *, is_foreign: bool
) -> Int64[np.ndarray, " n"]:
    """Return the indices of the masks of a window that are drawn in a part of the raster.

    Args:
        window: the window.
        objects: objects of the masks of its shard.
        part: the part, in pixels of the window; it may extend beyond it.
        is_foreign: whether the part is another window.
    """
    assert window.masks is not None
    x0, y0, x1, y1 = window.masks.xyxy.T
    inside = (x0 < part.x1) & (x1 > part.x0) & (y0 < part.y1) & (y1 > part.y0)
    drawn = inside & objects.kept[window.rows]
    if is_foreign:
        drawn &= ~objects.open[window.rows]
    return np.flatnonzero(drawn)
