"""Join the pieces of objects in neighbouring windows of a raster, so that each gets one class.

A shard holds the masks of its windows, which depend on the pixels of each window alone. Two masks
of overlapping windows belong to one object if they agree (`alps.masks.agreement`), or if the same
box has prompted them. As within an image, the best mask of a window that sees the whole object
replaces the others; if all windows cut it, the object is the union of its pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from alps.labelling.timings import Timings
from alps.masks.agreement import TileMasks, agreeing, group_masks
from alps.protocols import Mapper
from alps.store.label_store import LabelStore
from alps.store.objects import ObjectPieces
from alps.store.rasters import StoredRaster, StoredRasters, StoredWindow
from alps.structures.column_runs import ColumnRuns
from alps.structures.masks import Masks
from alps.structures.tiles import Tile


class Matches(NamedTuple):
    """Pairs of masks that show one object, and what is known of each of these masks."""

    pairs: Int64[np.ndarray, "E 2"]  # rows of two masks, counted over all shards
    row: Int64[np.ndarray, " P"]
    cut: Bool[np.ndarray, " P"]  # whether it touches a border of its window inside the raster
    predicted_iou: Float32[np.ndarray, " P"]
    area: Int64[np.ndarray, " P"]  # px
    core_area: Int64[np.ndarray, " P"]  # px in the core of its window


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The masks that are part of an object in several windows, in the order of their rows."""

    row: Int64[np.ndarray, " P"]
    object_id: Int64[np.ndarray, " P"]  # the lowest row of the object's masks
    kept: Bool[np.ndarray, " P"]  # False: another mask of the object replaces it
    area: Int64[np.ndarray, " P"]  # of the object, px

    def between(self, first: int, stop: int) -> Objects:
        """Return the masks with rows from ``first`` to ``stop``."""
        return self._select(slice(*np.searchsorted(self.row, [first, stop])))

    def pieces_of(self, object_id: Int64[np.ndarray, " _"]) -> Objects:
        """Return the kept masks of some objects."""
        return self._select(self.kept & np.isin(self.object_id, object_id))

    def _select(self, index: Any) -> Objects:
        return Objects(self.row[index], self.object_id[index], self.kept[index], self.area[index])


def join_objects(
    store: LabelStore, mapper: Mapper, run: Callable[..., Iterator[Any]], timings: Timings
) -> None:
    """Write objects/ of a store whose images are windows, unless it exists.

    Args:
        store: the store, with masks and features.
        mapper: maps a function over parts of the work, together with the other runs.
        run: `alps.labelling.sharing.share` with the arguments of this run bound.
        timings: times of this run; the time of this step is added.
    """
    pending = [i for i in range(len(store.plan)) if not store.has_objects(i)]
    if not pending:
        return
    with timings.measure("objects", int(store.plan.sizes.sum())):
        rasters = StoredRasters(store)
        matches = [*mapper(partial(match_shard, rasters), range(len(store.plan)))]
        objects = join(Matches(*(np.concatenate(part) for part in zip(*matches, strict=True))))
        first = rasters.first_rows.tolist()

        def pieces_of(shard: int) -> tuple[int, Objects, Objects]:
            here = objects.between(first[shard], first[shard + 1])
            return shard, here, objects.pieces_of(here.object_id)

        for _ in run(
            partial(_write_shard, store, rasters, first),
            pending,
            stage="objects",
            is_done=store.has_objects,
            item=pieces_of,
        ):
            pass


def match_shard(rasters: StoredRasters, shard: int) -> Matches:
    """Match the masks of the windows of a shard with those of later windows of the same raster.

    Args:
        rasters: the rasters of the store.
        shard: number of the shard.

    Returns:
        The matches; those with earlier windows are found with the earlier windows.
    """
    matcher = _Matcher()
    for raster, number in rasters.of_shard(shard):
        tile = raster.grid.windows[number - raster.first]
        for i in raster.grid.overlapping(tile):
            if raster.first + i > number:
                matcher.match(raster, rasters.window(number), rasters.window(raster.first + i))
    return matcher.matches()


class _Matcher:
    """Collects the matches of windows."""

    def __init__(self) -> None:
        self._pairs = [np.zeros((0, 2), np.int64)]
        self._masks: dict[int, tuple[bool, float, int, int]] = {}

    def match(self, raster: StoredRaster, a: StoredWindow, b: StoredWindow) -> None:
        """Match the masks of two windows, which share a part of the raster."""
        if not a.masks or not b.masks:
            return
        if a.masks.boxes is not None and b.masks.boxes is not None:
            ids = a.masks.boxes.object_id, b.masks.boxes.object_id
            _, *common = np.intersect1d(*ids, return_indices=True)
            pairs = np.stack(common, axis=1)
        else:
            pairs = agreeing(_tile_masks(a, a.masks), _tile_masks(b, b.masks))
        for window, index in zip((a, b), pairs.T, strict=True):
            self._describe(raster, window, np.unique(index))
        self._pairs.append(pairs + np.array([a.row, b.row]))

    def _describe(
        self, raster: StoredRaster, window: StoredWindow, index: Int64[np.ndarray, " n"]
    ) -> None:
        assert window.masks is not None
        masks = window.masks[index]
        cut = _tile_masks(window, masks).cut(raster.grid.size)
        columns = (cut, masks.predicted_iou, masks.area, core_areas(raster, window.tile, masks))
        rows = (index + window.row).tolist()
        self._masks.update(zip(rows, zip(*(c.tolist() for c in columns), strict=True), strict=True))

    def matches(self) -> Matches:
        """Return everything that was collected."""
        rows = sorted(self._masks)
        columns = [np.array([self._masks[row][i] for row in rows]) for i in range(4)]
        return Matches(
            np.concatenate(self._pairs),
            np.array(rows, np.int64),
            columns[0].astype(bool),
            columns[1].astype(np.float32),
            columns[2].astype(np.int64),
            columns[3].astype(np.int64),
        )


def core_areas(raster: StoredRaster, tile: Tile, masks: Masks) -> Int64[np.ndarray, " N"]:
    """Return the number of pixels of each mask of a window in the core of the window.

    Args:
        raster: the raster.
        tile: the window.
        masks: masks of the window.
    """
    core = raster.grid.core(tile).within(tile)
    runs = ColumnRuns.of(masks.counts, masks.size[0]).within(core)
    return runs.sum(runs.lengths).astype(np.int64)


def join(matches: Matches) -> Objects:
    """Join matched masks to objects.

    Args:
        matches: matches of all windows; a mask may occur several times.

    Returns:
        The objects of all matched masks.
    """
    row, first = np.unique(matches.row, return_index=True)
    area, core_area = matches.area[first], matches.core_area[first]
    groups = group_masks(
        np.searchsorted(row, matches.pairs),
        cut=matches.cut[first],
        predicted_iou=matches.predicted_iou[first],
        area=area,
    )
    n = len(row)
    object_id = np.full(n, np.iinfo(np.int64).max)
    largest, in_cores = np.zeros((2, n), np.int64)
    np.minimum.at(object_id, groups.label, row)
    np.maximum.at(largest, groups.label, area)
    np.add.at(in_cores, groups.label, core_area)
    representative = np.zeros(n, np.int64)
    representative[groups.label[groups.kept]] = area[groups.kept]
    # The area of a union is only estimated: no piece may lie in the core of its window.
    estimate = np.maximum(largest, in_cores)
    areas = np.where(groups.united, estimate[groups.label], representative[groups.label])
    return Objects(row, object_id[groups.label], groups.kept, areas)


def _write_shard(
    store: LabelStore,
    rasters: StoredRasters,
    first_rows: Sequence[int],
    item: tuple[int, Objects, Objects],
) -> Timings:
    """Write the objects of a shard with their features.

    Args:
        store: the store, with masks and features.
        rasters: the rasters of the store.
        first_rows: row of the first mask of each shard.
        item: number of the shard, its masks of objects in several windows, and all kept masks of
            these objects.

    Returns:
        No times; `join_objects` measures them.
    """
    shard, here, pieces = item
    first, stop = first_rows[shard], first_rows[shard + 1]
    object_id = np.arange(first, stop)
    shared, kept = np.zeros(len(object_id), bool), np.zeros(len(object_id), bool)
    area = np.zeros(len(object_id), np.int64)
    for raster, number in rasters.of_shard(shard):
        window = rasters.window(number)
        if window.masks is not None:
            rows = slice(window.row - first, window.row - first + len(window.masks))
            area[rows] = window.masks.area
            # What no other window confirms counts only in the core, which this window sees best.
            kept[rows] = core_areas(raster, window.tile, window.masks) > 0
    index = here.row - first
    object_id[index], kept[index], area[index] = here.object_id, here.kept, here.area
    shared[index] = True
    means = _mean_features(store, first_rows, here.object_id, pieces)
    store.shard(shard).write_objects(ObjectPieces(object_id, shared, kept, area), means)
    return Timings()


def _mean_features(
    store: LabelStore,
    first_rows: Sequence[int],
    object_id: Int64[np.ndarray, " S"],
    pieces: Objects,
) -> Float32[np.ndarray, "S C"]:
    """Return the mean features of objects, weighted by the areas of their pieces.

    Args:
        store: the store.
        first_rows: row of the first mask of each shard.
        object_id: the objects.
        pieces: the kept masks of these objects.
    """
    ids, index = np.unique(object_id, return_inverse=True)
    total, sums = np.zeros(len(ids)), np.zeros((len(ids), store.shard(0).features().shape[1]))
    shards = np.searchsorted(first_rows, pieces.row, side="right") - 1
    for shard in np.unique(shards).tolist():
        rows = pieces.row[shards == shard] - first_rows[shard]
        weight = store.shard(shard).areas()[rows].astype(np.float64)
        group = np.searchsorted(ids, pieces.object_id[shards == shard])
        np.add.at(total, group, weight)
        np.add.at(sums, group, store.shard(shard).features()[rows] * weight[:, None])
    return (sums / total[:, None]).astype(np.float32)[index]


def _tile_masks(window: StoredWindow, masks: Masks) -> TileMasks:
    """Return masks of a window with their place in the raster."""
    return TileMasks(window.tile, masks, (window.tile.x0, window.tile.y0))
