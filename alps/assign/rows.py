"""Features that stay on disk, as one long array of rows that is read piecewise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from alps.errors import AlpsError
from alps.protocols import Mapper

#: Neighbouring rows that a mini-batch takes at once: long enough for a disk, short enough that a
#: batch sees many images.
RUN = 32
#: Chunks of a part, which is a worker's at once: 65,536 rows, a second's work or so.
PART = 16

#: Rows of an epoch of mini-batches, at most: minutes of the hours that a billion would take.
EPOCH = 1 << 24

Transform = Callable[[Float32[np.ndarray, "n C"]], Float32[np.ndarray, "n D"]]


class Rows:
    """Blocks of features as one array, with a weight per row.

    Results depend on the order of the rows, never on how they are cut into blocks.

    Args:
        blocks: memory-mapped in practice; only the rows asked for are read.
        weights: what a row counts; all 1 by default.
        transform: what is done to every row that is read.
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
        """Rows by their place in the whole; n ≥ 1. Raises `AlpsError` on NaN or infinity."""
        home = np.searchsorted(self._starts, index, side="right") - 1
        local = index - self._starts[home]
        rows = np.empty((len(index), self._blocks[int(home[0])].shape[1]), np.float32)
        for b in np.unique(home).tolist():
            rows[home == b] = self._blocks[b][local[home == b]]
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)[0]
            raise AlpsError(
                f"features hold NaN or infinity in block {home[bad]}, row {local[bad]}; expected "
                "finite values (float16 ends at 65504): make them anew with overwrite=features"
            )
        return rows if self._transform is None else self._transform(rows)

    def weights(self, index: Int64[np.ndarray, " n"] | slice) -> Float32[np.ndarray, " n"]:
        """What these rows count."""
        if self._weights is None:
            n = len(range(len(self))[index]) if isinstance(index, slice) else len(index)
            return np.broadcast_to(np.float32(1), n)
        return self._weights[index]

    def unweighted(self) -> Rows:
        """The same rows, each of which counts 1."""
        rows = copy(self)
        rows._weights = None
        return rows

    def chunks(
        self, size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Int64[np.ndarray, " _"]]:
        """The places of the rows from ``start`` to ``stop`` in order, ``size`` at a time."""
        stop = len(self) if stop is None else min(stop, len(self))
        for first in range(start, stop, size):
            yield np.arange(first, min(first + size, stop))

    def parts(self, size: int) -> list[tuple[int, int]]:
        """(start, stop) of the pieces that workers look at: `PART` chunks each.

        The data decide how many there are, not the workers, so sums over them round alike.
        """
        return [(i, i + PART * size) for i in range(0, len(self), PART * size)]

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Int64[np.ndarray, " _"]]:
        """The places of rows, at most ``size`` at a time: short runs from the whole.

        All rows once, or `EPOCH` of them: of more, a mini-batch says little that is new.

        The order within a batch does not matter to k-means, so it is not shuffled.
        """
        run = min(RUN, size)
        starts = rng.permutation(np.arange(0, len(self), run))[: EPOCH // run]
        for first in range(0, len(starts), size // run):
            index = np.add.outer(starts[first : first + size // run], np.arange(run)).ravel()
            yield index[index < len(self)]


def over_parts(
    mapper: Mapper, task: Callable[[Any], Any], items: Sequence[tuple[Any, ...]]
) -> Iterator[Any]:
    """What the task gives for each part, in their order; a single part is not sent elsewhere."""
    return (mapper if len(items) > 1 else map)(task, items)
