"""The rasters of a label store whose images are windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus, index_map_path
from alps.store.shards import ShardSequence
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord
from alps.structures.tiles import Tile
from alps.structures.windows import WindowGrid

#: Number of rows of windows whose masks are in memory: a row and both neighbours.
CACHED_ROWS = 3


@dataclass(frozen=True, slots=True, eq=False)
class StoredRaster:
    """A raster of a store."""

    file: str  # its index map, relative to the store
    first: int  # number of its first window in the plan, where its windows are consecutive
    grid: WindowGrid


@dataclass(frozen=True, slots=True, eq=False)
class StoredWindow:
    """A window of a raster with its masks."""

    tile: Tile
    status: ImageStatus
    masks: Masks | None  # None: the window could not be read
    row: int  # row of its first mask, counted over all shards
    shard: int
    shard_row: int  # row of its first mask in its shard

    @property
    def rows(self) -> slice:
        """Rows of its masks in its shard."""
        return slice(self.shard_row, self.shard_row + self.status.n_masks)


class StoredRasters(Sequence[StoredRaster]):
    """The rasters of a store, with access to the masks of their windows.

    It reads the whole plan once, so use one for all shards. Before the first access to a raster it
    is small, and can be sent to a worker process.

    Args:
        store: the store; its masks must be complete for `window`.
    """

    def __init__(self, store: LabelStore) -> None:
        self._store = store
        self._starts = np.cumsum([0, *store.plan.sizes])

    def __len__(self) -> int:
        return len(self._rasters)

    def __getitem__(self, index: int) -> StoredRaster:  # type: ignore[override]  # no slices
        return self._rasters[index]

    @cached_property
    def cached_shards(self) -> int:
        """Number of shards that contain `CACHED_ROWS` rows of windows of the widest raster."""
        columns = max((raster.grid.columns for raster in self), default=0)
        size = max(int(self._store.plan.sizes.max(initial=1)), 1)
        return 1 - (-CACHED_ROWS * columns // size)

    def window(self, number: int) -> StoredWindow:
        """Return a window by its number in the plan; fast for the neighbours of the last one."""
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        window: StoredWindow = self._read[shard][number - self._starts[shard]]
        return window

    def of_shard(self, shard: int) -> list[tuple[StoredRaster, int]]:
        """Return the raster and the number of each window of a shard."""
        starts = [raster.first for raster in self._rasters]
        numbers = range(self._starts[shard], self._starts[shard + 1])
        return [
            (self._rasters[int(np.searchsorted(starts, number, side="right")) - 1], number)
            for number in numbers
        ]

    @cached_property
    def _rasters(self) -> list[StoredRaster]:
        rasters: list[StoredRaster] = []
        first = 0
        records = (record for shard in self._store.plan for record in shard if record.window)
        for file, windows in groupby(records, key=index_map_path):
            tiles = [record.window for record in windows if record.window is not None]
            rasters.append(StoredRaster(file, first, WindowGrid(tiles)))
            first += len(tiles)
        return rasters

    @cached_property
    def _read(self) -> ShardSequence[list[StoredWindow]]:
        return ShardSequence(self._read_shard, len(self._store.plan), self.cached_shards)

    @cached_property
    def first_rows(self) -> np.ndarray:
        """Row of the first mask of each shard, counted over all shards, and the number of rows."""
        counts = [
            sum(status.n_masks for status in self._store.shard(shard).images())
            for shard in range(len(self._store.plan))
        ]
        return np.cumsum([0, *counts])

    def _read_shard(self, shard: int) -> list[StoredWindow]:
        masks, row = self._store.shard(shard).masks(), 0
        first = int(self.first_rows[shard])
        records: list[ImageRecord] = self._store.plan[shard]
        windows = []
        for record, status in zip(records, self._store.shard(shard).images(), strict=True):
            assert record.window is not None
            image_masks = masks.get(record.image_id)
            windows.append(
                StoredWindow(record.window, status, image_masks, first + row, shard, row)
            )
            row += status.n_masks
        return windows
