"""Samplers whose order depends only on the seed, not on workers, ranks or restarts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from torch.utils.data import Sampler

#: Spawn keys of two independent streams of random numbers from one seed.
ORDER, SEEDS = 0, 1


@dataclass(frozen=True, slots=True)
class Draw:
    """The index of an image in the training stream, and the seed of its augmentation."""

    index: int
    seed: int


class StreamSampler(Sampler[list[Draw]]):
    """Yield batches from an endless stream of epochs, each a permutation of all images.

    An image and its seed depend only on the position in the stream. Each step takes the next
    ``batch_size`` × ``world_size`` positions, and rank r takes every ``world_size``-th position of
    the step, starting at r. Two ranks together therefore process the same images as one rank with
    twice the batch size, and a resumed run the same images as an uninterrupted run. Batches may
    span two epochs. One permutation is kept in memory, 8 bytes per image.

    Args:
        n: number of images.
        batch_size: images per rank and batch.
        total_batches: number of batches of the run; also the length of the sampler.
        seed: seed of the stream.
        start: number of batches to skip when a run is resumed.
        rank: rank of this process.
        world_size: number of processes.

    Raises:
        ValueError: there are no images.
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
                epoch, index = divmod(position, self.n)
                if epoch != current:
                    current, order = epoch, self._order(epoch)
                batch.append(Draw(int(order[index]), self._seed(position)))
            yield batch

    def _order(self, epoch: int) -> Int64[np.ndarray, " n"]:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(ORDER, epoch))
        return np.random.default_rng(sequence).permutation(self.n)

    def _seed(self, position: int) -> int:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(SEEDS, position))
        return int(sequence.generate_state(1, np.uint64)[0])


class ShardSampler(Sampler[int]):
    """Distribute images over all ranks without padding or repetition, so that scores are exact.

    The lengths of two ranks may differ by one.

    Args:
        n: number of images.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(self, n: int, rank: int = 0, world_size: int = 1) -> None:
        self._indices = range(rank, n, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)
