"""Which images come in which order: a function of the seed, never of workers, ranks or restarts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from torch.utils.data import Sampler

#: Two independent streams of random numbers grow from one seed.
ORDER, SEEDS = 0, 1


@dataclass(frozen=True, slots=True)
class Draw:
    """An image of the training stream."""

    index: int
    seed: int  # of everything random about this draw


class StreamSampler(Sampler[list[Draw]]):
    """Batches from an endless stream of shuffled epochs, one permutation of all images each.

    The position in the stream alone decides which image comes and what its seed is. Step s takes
    the next ``batch_size`` × ``world_size`` positions, and rank r every ``world_size``-th of these
    from r on: two ranks see together what one with twice the batch sees, and a run that starts at
    step s sees what an unbroken one sees there. Batches run across the end of an epoch. Memory is
    one permutation: 8 bytes per image.

    Args:
        n: images.
        batch_size: of one rank.
        total_batches: batches of the whole run, which is also the length.
        seed: of the stream.
        start: batches to skip, those that an earlier run has done.
        rank: of this process.
        world_size: processes.
    """

    def __init__(
        self,
        n: int,
        *,
        batch_size: int,
        total_batches: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if n < 1:
            raise ValueError(f"a stream needs at least one image, got n = {n}")
        self.n = n
        self.batch_size = batch_size
        self.total_batches = total_batches
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.total_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        size = self.batch_size * self.world_size
        current, order = -1, np.empty(0, np.int64)
        for step in range(self.start, self.total_batches):
            batch = []
            for position in range(step * size + self.rank, (step + 1) * size, self.world_size):
                epoch, place = divmod(position, self.n)
                if epoch != current:
                    current, order = epoch, self._order(epoch)
                batch.append(Draw(int(order[place]), self._seed(position)))
            yield batch

    def _order(self, epoch: int) -> Int64[np.ndarray, " n"]:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(ORDER, epoch))
        return np.random.default_rng(sequence).permutation(self.n)

    def _seed(self, position: int) -> int:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(SEEDS, position))
        return int(sequence.generate_state(1, np.uint64)[0])


class ShardSampler(Sampler[int]):
    """Every image once over all ranks, nothing padded or repeated, so that scores are exact.

    Ranks may differ by one in length.
    """

    def __init__(self, n: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, n, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)
