"""Batches that combine images of several datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from alps.datasets.sampler import Draw, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.errors import ConfigError


class JointDraw(NamedTuple):
    """The index of a dataset, and an image of its training stream."""

    dataset: int
    draw: Draw


class JointExample(NamedTuple):
    """The index of a dataset, and an example of it."""

    dataset: int
    example: Example


def images_per_dataset(sizes: Sequence[int], batch_size: int) -> list[int]:
    """Split a batch in proportion to the sizes of the datasets, with at least one image of each.

    Each dataset that would get less than one image gets one. The remaining images are divided among
    the larger datasets: numbers are rounded down, and the images left over go to the datasets with
    the largest remainders (Hamilton's method).

    Args:
        sizes: number of images of each dataset.
        batch_size: images per batch of all processes.

    Returns:
        The number of images of each dataset in a batch.

    Raises:
        ConfigError: a batch has fewer images than there are datasets.
    """
    if batch_size < len(sizes):
        raise ConfigError(
            f"a batch of {batch_size} images cannot hold one of each of {len(sizes)} datasets; "
            f"increase data.batch_size (per process) to {len(sizes)} or more in total"
        )
    small: set[int] = set()
    while True:
        others = [i for i in range(len(sizes)) if i not in small]
        remaining, total = batch_size - len(small), sum(sizes[i] for i in others)
        too_small = {i for i in others if sizes[i] * remaining < total}
        if not too_small:
            break
        small |= too_small
    counts = [1] * len(sizes)
    for i in others:
        counts[i] = sizes[i] * remaining // total
    # Integer arithmetic avoids rounding errors; ties go to the first dataset.
    order = sorted(others, key=lambda i: -(sizes[i] * remaining % total))
    for i in order[: batch_size - sum(counts)]:
        counts[i] += 1
    return counts


class JointSampler(Sampler[list[JointDraw]]):
    """Combine one `StreamSampler` per dataset; all batches have the same images per dataset.

    The images of step s depend only on the seed and s. Rank r takes every ``world_size``-th image
    of the combined batch of all ranks, starting at r. A rank may therefore get no image of a small
    dataset, although the combined batch has one.

    Args:
        sizes: number of images of each dataset.
        batch_size: images per rank and batch.
        total_batches: number of batches of the run; also the length of the sampler.
        seed: seed from which the seed of each dataset's stream is derived.
        start: number of batches to skip when a run is resumed.
        rank: rank of this process.
        world_size: number of processes.

    Raises:
        ConfigError: a batch has fewer images than there are datasets.
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
                batch_size=n_in_batch,
                total_batches=total_batches,
                seed=int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0]),
                start=start,
            )
            for i, (n, n_in_batch) in enumerate(
                zip(sizes, images_per_dataset(sizes, batch_size * world_size), strict=True)
            )
        ]

    def __len__(self) -> int:
        return len(self.streams[0])

    def __iter__(self) -> Iterator[list[JointDraw]]:
        for batches in zip(*self.streams, strict=True):
            step = [JointDraw(i, draw) for i, batch in enumerate(batches) for draw in batch]
            yield step[self.rank :: self.world_size]


class JointDataset(Dataset[JointExample]):
    """Read each image from its dataset.

    Args:
        datasets: the datasets, in the order of the sampler's ``sizes``.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, joint: JointDraw) -> JointExample:
        return JointExample(joint.dataset, self.datasets[joint.dataset][joint.draw])

    def collate(self, examples: list[JointExample]) -> Batch:
        """Stack examples of equal size; they must be sorted by dataset."""
        counts = np.bincount([e.dataset for e in examples], minlength=len(self.datasets))
        batch = collate([e.example for e in examples])
        return batch._replace(counts=tuple(counts.tolist()))
