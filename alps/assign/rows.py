"""Features on disk as one array of rows, which is read in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from alps.errors import AlpsError
from alps.protocols import Mapper

#: Number of consecutive rows that a mini-batch reads: enough for fast disk access, few enough for a
#: batch of many images.
RUN = 32
#: Number of chunks of a part, which a worker processes: 65,536 rows by default, about one second.
PART = 16

#: Maximum number of rows in an epoch of mini-batches: minutes instead of hours for a billion rows.
EPOCH = 1 << 24

Transform = Callable[[Float32[np.ndarray, "n C"]], Float32[np.ndarray, "n D"]]


class Rows:
    """Blocks of features as one array, with a weight per row.

    Results depend on the order of the rows, not on how they are divided into blocks.

    Args:
        blocks: arrays, usually memory-mapped; only the requested rows are read.
        weights: weights of the rows; by default 1.
        transform: function that is applied to all rows that are read.
    """

    def __init__(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        *,
        weights: Float32[np.ndarray, " n"] | None = None,
        transform: Transform | None = None,
    ) -> None:
        self._blocks = blocks
        self._starts = np.cumsum([0, *(len(block) for block in blocks)])
        self._weights = weights
        self._transform = transform

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, index: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n D"]:
        """Return the transformed rows at ``index``, which must not be empty.

        Raises:
            AlpsError: a feature is NaN or infinite.
        """
        block = np.searchsorted(self._starts, index, side="right") - 1
        local = index - self._starts[block]
        rows = np.empty((len(index), self._blocks[int(block[0])].shape[1]), np.float32)
        for b in np.unique(block).tolist():
            of_block = torch.from_numpy(self._blocks[b][local[block == b]])
            rows[block == b] = of_block.float().numpy()  # from float16 in a quarter of NumPy's time
        if not np.isfinite(rows).all():
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]
            raise AlpsError(
                f"features contain NaN or infinity in block {block[bad]}, row {local[bad]}; "
                "expected finite values (float16 ends at 65504): recompute them with "
                "overwrite=features"
            )
        return rows if self._transform is None else self._transform(rows)

    def weights(self, index: Int64[np.ndarray, " n"] | slice) -> Float32[np.ndarray, " n"]:
        """Return the weights of the rows at ``index``."""
        if self._weights is None:
            n = len(range(len(self))[index]) if isinstance(index, slice) else len(index)
            return np.broadcast_to(np.float32(1), n)
        return self._weights[index]

    def unweighted(self) -> Rows:
        """Return a copy in which each row has weight 1."""
        rows = copy(self)
        rows._weights = None
        return rows

    def chunks(
        self, size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Int64[np.ndarray, " _"]]:
        """Yield the indices of rows in order, ``size`` at a time.

        Args:
            size: number of rows per chunk; the last chunk may be smaller.
            start: index of the first row.
            stop: index after the last row; all rows by default.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        for first in range(start, stop, size):
            yield np.arange(first, min(first + size, stop))

    def parts(self, size: int) -> list[tuple[int, int]]:
        """Return (start, stop) of the parts that workers process, `PART` chunks of ``size`` rows.

        They depend on the data, not on the workers, so that sums over parts round equally.
        """
        return [(i, i + PART * size) for i in range(0, len(self), PART * size)]

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Int64[np.ndarray, " _"]]:
        """Yield the indices of random mini-batches of at most ``size`` rows, in runs of `RUN` rows.

        An epoch contains every row once, but at most `EPOCH` rows, because more mini-batches hardly
        improve the centroids. The order within a batch does not affect k-means, so batches are not
        shuffled.
        """
        run = min(RUN, size)
        starts = rng.permutation(np.arange(0, len(self), run))[: EPOCH // run]
        for first in range(0, len(starts), size // run):
            index = np.add.outer(starts[first : first + size // run], np.arange(run)).ravel()
            yield index[index < len(self)]


def map_parts(
    mapper: Mapper, task: Callable[[Any], Any], items: Sequence[tuple[Any, ...]]
) -> Iterator[Any]:
    """Return the results of a task for each item, in order.

    Args:
        mapper: maps the task over the items; a single item is processed in this process.
        task: function of an item.
        items: parts of the data.
    """
    return (mapper if len(items) > 1 else map)(task, items)
