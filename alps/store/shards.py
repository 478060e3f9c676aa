"""The shards of a label store: their plan, their files, and lazy access with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float16, Float32, Int, Int64

from alps.store.atomic import atomic
from alps.store.files import read_array, read_row_group, read_table
from alps.store.layout import ImageStatus, Stage, StoreInfo
from alps.store.objects import ObjectPieces
from alps.store.tables import (
    LABELS,
    MASKS,
    masks_to_table,
    statuses_to_table,
    table_to_masks,
    table_to_statuses,
)
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord
from alps.structures.tiles import Tile

T = TypeVar("T")
#: Cached row groups of the plan: one for sequential access, one for random access.
CACHED_GROUPS = 2


class Plan(Sequence[list[ImageRecord]]):
    """The images of every shard, as a sequence of lists.

    Args:
        path: path of plan.parquet.

    Raises:
        StoreError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        shards = read_table(path, ["shard"])["shard"].to_numpy()
        self.sizes: Int64[np.ndarray, " S"] = np.bincount(shards)  # images per shard
        self._starts = np.cumsum([0, *self.sizes])
        metadata = pq.read_metadata(path)
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._groups = np.cumsum([0, *rows])
        self._read = lru_cache(CACHED_GROUPS)(partial(read_row_group, path))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, shard: Any) -> Any:
        if not 0 <= shard < len(self):  # ends iteration over a sequence
            raise IndexError(shard)
        start, stop = self._starts[shard : shard + 2]
        first = int(np.searchsorted(self._groups, start, side="right")) - 1
        last = int(np.searchsorted(self._groups, stop, side="left"))
        records = []
        for group in range(first, last):
            offset = self._groups[group]
            rows = self._read(group)[max(start - offset, 0) : stop - offset].drop(["shard"])
            records += [_to_record(row) for row in rows.to_pylist()]
        return records

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, sorted."""
        return tuple(sorted(read_table(self._path, ["split"])["split"].unique().to_pylist()))

    @cached_property
    def shard_of(self) -> Mapping[str, int]:
        """Number of the shard of each image, by image id."""
        table = read_table(self._path, ["image_id", "shard"])
        return dict(zip(table["image_id"].to_pylist(), table["shard"].to_pylist(), strict=True))


def _to_record(row: dict[str, Any]) -> ImageRecord:
    """Convert a row of plan.parquet."""
    window = row.pop("window", None)
    return ImageRecord(**row, window=None if window is None else Tile(**window))


class Shard:
    """A shard of a label store: a fixed group of images, written completely or not at all.

    Args:
        root: folder of the store.
        info: contents of store.json.
        number: number of the shard.
    """

    def __init__(self, root: Path, info: StoreInfo, number: int) -> None:
        self._root, self._info, self._name = root, info, f"{number:05d}"

    def images(self) -> list[ImageStatus]:
        """Read the status of each image."""
        return table_to_statuses(self._read_table("images"))

    def masks(self) -> dict[str, Masks]:
        """Read the masks by image, in plan order, without failed images."""
        table, statuses = self._read_table("masks"), self.images()
        bounds = np.cumsum([0, *(status.n_masks for status in statuses)])
        return {
            status.image_id: table_to_masks(
                table.slice(start, stop - start), (status.height, status.width)
            )
            for status, start, stop in zip(statuses, bounds[:-1], bounds[1:], strict=True)
            if status.status != "failed"
        }

    def areas(self) -> Int64[np.ndarray, " N"]:
        """Read the area of each mask, in pixels."""
        area: np.ndarray = self._read_table("masks", ["area"])[0].to_numpy()
        return area.astype(np.int64)

    def features(self) -> Float16[np.ndarray, "N C"]:
        """Memory-map the features, one row per mask; C is 0 if the recipe has no features."""
        if "features" not in self._info.stages:
            return np.zeros((len(self.areas()), 0), np.float16)
        path = self._root / f"features/{self._name}.npy"
        # An empty array cannot be memory-mapped.
        array = read_array(path, mapped=path.exists() and path.stat().st_size > 128)
        return array if len(array) else np.zeros(array.shape, np.float16)

    def labels(self) -> tuple[Int[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Read the labels.

        Returns:
            ``category_id`` and ``distance`` (NaN: none), in the order of the masks.
        """
        table = self._read_table("labels")
        return (
            table["category_id"].to_numpy(),
            table["distance"].to_numpy(zero_copy_only=False).astype(np.float32),
        )

    def write_masks(self, statuses: Sequence[ImageStatus], masks: Mapping[str, Masks]) -> None:
        """Write the image table, then the mask table, which commits the shard.

        Args:
            statuses: status of each image, in plan order.
            masks: masks by image, in plan order.
        """
        self._write_table("images", statuses_to_table(statuses), "masks")
        parts = [masks_to_table(image_id, m) for image_id, m in masks.items() if len(m)]
        self._write_table(
            "masks", pa.concat_tables(parts) if parts else MASKS.empty_table(), "masks"
        )

    def write_features(self, features: Float[np.ndarray, "N C"]) -> None:
        """Write the features as float16, one row per mask in the order of the masks."""
        with atomic(self._root, f"features/{self._name}.npy") as file:
            np.save(file, features.astype(np.float16), allow_pickle=False)

    def objects(self) -> ObjectPieces:
        """Read the objects of the masks, in a store of windows."""
        return ObjectPieces.from_table(self._read_table("objects"))

    def object_features(self) -> Float16[np.ndarray, "N C"]:
        """Read the features, with the mean of an object in the rows of its pieces."""
        features, shared = self.features(), self.objects().shared
        if features.shape[1] == 0 or not shared.any():
            return features
        features = features.copy()
        features[shared] = read_array(self._root / f"objects/{self._name}.npy")
        return features

    def write_objects(self, pieces: ObjectPieces, features: Float[np.ndarray, "S C"]) -> None:
        """Write the objects of the masks.

        Args:
            pieces: object of each mask.
            features: mean features of the objects of the masks that are ``shared``.
        """
        with atomic(self._root, f"objects/{self._name}.npy") as file:
            np.save(file, features.astype(np.float16), allow_pickle=False)
        self._write_table("objects", pieces.to_table(), "masks")

    def write_labels(
        self, category_id: Int[np.ndarray, " N"], distance: Float[np.ndarray, " N"] | None
    ) -> None:
        """Write the labels, which commits them; the index maps must exist already.

        Args:
            category_id: class of each mask, in the order of the masks.
            distance: distance of each mask to its centroid; NaN and None are written as null.
        """
        masks = self._read_table("masks", ["image_id", "mask_id"])
        values = np.full(len(masks), np.nan) if distance is None else distance
        distances = pa.array(values, pa.float32(), from_pandas=True)
        columns = [*masks.columns, pa.array(category_id, pa.int32()), distances]
        self._write_table("labels", pa.table(columns, schema=LABELS), "assign")

    def _read_table(self, folder: str, columns: list[str] | None = None) -> pa.Table:
        return read_table(self._root / f"{folder}/{self._name}.parquet", columns)

    def _write_table(self, folder: str, table: pa.Table, stage: Stage) -> None:
        fingerprint = self._info.stages[stage]["fingerprint"]
        table = table.replace_schema_metadata({"alps.fingerprint": fingerprint})
        with atomic(self._root, f"{folder}/{self._name}.parquet") as file:
            pq.write_table(table, file, compression="zstd")


class ShardSequence(Sequence[T]):
    """A sequence with one item per shard, read on access and cached.

    Args:
        read: returns the item of a shard.
        n: number of shards.
        cached: maximum number of cached items. Each memory map keeps a file open, and a process may
            open 1024 files.
    """

    def __init__(self, read: Callable[[int], T], n: int, cached: int) -> None:
        self._arguments = (read, n, cached)
        self._read = lru_cache(cached)(read)

    def __reduce__(self) -> tuple[type[ShardSequence[T]], tuple[Any, ...]]:
        return ShardSequence, self._arguments  # without the cache

    def __len__(self) -> int:
        return self._arguments[1]

    def __getitem__(self, shard: Any) -> Any:
        if not 0 <= shard < len(self):
            raise IndexError(shard)
        return self._read(shard)
