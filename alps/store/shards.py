"""Lazy access to the data of each shard of a store, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from alps.errors import StoreError
from alps.structures.records import ImageRecord

T = TypeVar("T")
#: Cached row groups of the plan: one for sequential access, one for random access.
KEPT = 2


class Plan(Sequence[list[ImageRecord]]):
    """The images of every shard, as a sequence of lists.

    Args:
        path: path of plan.parquet.

    Raises:
        StoreError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        shards = read_table(path, ["shard"])["shard"].to_numpy()
        self.sizes: Int64[np.ndarray, " S"] = np.bincount(shards)  # images per shard
        self._starts = np.cumsum([0, *self.sizes])
        metadata = pq.read_metadata(path)
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._groups = np.cumsum([0, *rows])
        self._read = lru_cache(KEPT)(partial(_read_group, path))

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
            own = self._read(group)[max(start - offset, 0) : stop - offset]
            records += [ImageRecord(**row) for row in own.to_pylist()]
        return records


class Opened(Sequence[T]):
    """A sequence with one item per shard, read on access and cached.

    Args:
        read: returns the item of a shard.
        n: number of shards.
        kept: number of cached items. A memory map keeps a file open, and a process may open 1024.
    """

    def __init__(self, read: Callable[[int], T], n: int, kept: int) -> None:
        self._arguments = (read, n, kept)
        self._read = lru_cache(kept)(read)

    def __reduce__(self) -> tuple[type[Opened[T]], tuple[Any, ...]]:
        return Opened, self._arguments  # another process reads its own items

    def __len__(self) -> int:
        return self._arguments[1]

    def __getitem__(self, shard: Any) -> Any:
        if not 0 <= shard < len(self):
            raise IndexError(shard)
        return self._read(shard)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of a store; raise `StoreError` with the remedy if that fails."""
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _cannot_read(path, error) from error


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Read an array of a store; raise `StoreError` with the remedy if that fails."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if mapped else None)
        return array
    except (OSError, ValueError, EOFError) as error:
        raise _cannot_read(path, error) from error


def _read_group(path: Path, group: int) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group).drop(["shard"])
    except (OSError, pa.ArrowException) as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"cannot read {path}: {error}; delete the file and run the same label.py command again to "
        "make it anew"
    )
