"""Several datasets in one stream of batches: every batch has images of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from alps.datasets.sampler import Draw, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.errors import ConfigError


class JointDraw(NamedTuple):
    """An image of the training stream, and which of the datasets it is of."""

    dataset: int
    draw: Draw


class JointExample(NamedTuple):
    """An example, and which of the datasets it is of."""

    dataset: int
    example: Example


def shares(sizes: Sequence[int], batch_size: int) -> list[int]:
    """Split a batch in proportion to the sizes of the datasets, with one image of each at least.

    What is left of the whole shares goes to the largest remainders (Hamilton's method); datasets
    whose share is below one get one first, and the others share the rest.

    Raises:
        ConfigError: there are fewer images in a batch than datasets.
    """
    if batch_size < len(sizes):
        raise ConfigError(
            f"a batch of {batch_size} images cannot hold one of each of {len(sizes)} datasets; "
            f"raise data.batch_size (per process), here to {len(sizes)} or more in all"
        )
    small: set[int] = set()
    while True:
        rest = [i for i in range(len(sizes)) if i not in small]
        left, total = batch_size - len(small), sum(sizes[i] for i in rest)
        below = {i for i in rest if sizes[i] * left < total}
        if not below:
            break
        small |= below
    found = [1] * len(sizes)
    for i in rest:
        found[i] = sizes[i] * left // total
    # Whole numbers throughout, so that no rounding decides; ties go to the first.
    order = sorted(rest, key=lambda i: -(sizes[i] * left % total))
    for i in order[: batch_size - sum(found)]:
        found[i] += 1
    return found


class JointSampler(Sampler[list[JointDraw]]):
    """A `StreamSampler` per dataset; each step takes the share of each.

    The images of step s are a function of the seed and s alone: the batch of all processes is
    split into shares, and rank r gets every ``world_size``-th image from r on. A rank may so have
    no image of a small dataset, but the step has.

    Args:
        sizes: images of each dataset.
        batch_size: of one rank.
        total_batches: batches of the whole run, which is also the length.
        seed: of the streams; each dataset has its own from it.
        start: batches to skip, those that an earlier run has done.
        rank: of this process.
        world_size: processes.

    Raises:
        ConfigError: there are fewer images in a batch than datasets.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        total_batches: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.streams = [
            StreamSampler(
                n,
                batch_size=share,
                total_batches=total_batches,
                seed=int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0]),
                start=start,
            )
            for i, (n, share) in enumerate(
                zip(sizes, shares(sizes, batch_size * world_size), strict=True)
            )
        ]

    def __len__(self) -> int:
        return len(self.streams[0])

    def __iter__(self) -> Iterator[list[JointDraw]]:
        for batches in zip(*self.streams, strict=True):
            step = [JointDraw(i, draw) for i, batch in enumerate(batches) for draw in batch]
            yield step[self.rank :: self.world_size]


class JointDataset(Dataset[JointExample]):
    """Reads a draw from its dataset.

    Args:
        datasets: in the order of the sampler's.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, joint: JointDraw) -> JointExample:
        return JointExample(joint.dataset, self.datasets[joint.dataset][joint.draw])

    def collate(self, examples: list[JointExample]) -> Batch:
        """Stack examples of one size, which come sorted by their dataset."""
        counts = np.bincount([e.dataset for e in examples], minlength=len(self.datasets))
        batch = collate([e.example for e in examples])
        return batch._replace(counts=tuple(counts.tolist()))
