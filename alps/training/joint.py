"""Data module of several datasets, which share batches and are scored separately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from alps.datasets.joint import JointDataset, JointSampler
from alps.datasets.segmentation import Batch, Example
from alps.protocols import LabelledSet
from alps.training.data import SegmentationData, loader, position


class JointData(LightningDataModule):
    """Batches of several labelled sets, in proportion to their sizes.

    A `SegmentationData` splits and reads each set. All sets use the smallest of their crops.

    Args:
        sets: labelled sets by name.
        batch_size: images per process and batch.
        seed: seed of all random choices.
        options: further arguments of `SegmentationData`, shared by all sets.

    Raises:
        DatasetNotFound: a set has no images.
        ConfigError: a number is out of range.
    """

    def __init__(
        self, sets: Mapping[str, LabelledSet], *, batch_size: int, seed: int = 0, **options: Any
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self.parts = [
            SegmentationData(images, batch_size=batch_size, seed=seed, **options)
            for images in sets.values()
        ]
        self.crop = min(part.crop for part in self.parts)
        for part in self.parts:
            part.crop = self.crop

    def setup(self, stage: str) -> None:
        """Set the trainer of each part, from which it reads the numbers of processes and steps."""
        for part in self.parts:
            part.trainer = self.trainer

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the remaining training steps."""
        assert self.trainer is not None
        dataset = JointDataset([part.train_dataset() for part in self.parts])
        sampler = JointSampler(
            [len(part.train) for part in self.parts],
            batch_size=self.batch_size,
            seed=self.seed,
            **position(self.trainer),
        )
        workers = self.parts[0].num_workers
        return loader(dataset, sampler, dataset.collate, self.trainer, workers)

    def val_dataloader(self) -> list[DataLoader[list[Example]]]:
        """Return one loader of whole validation images per set."""
        return [part.val_dataloader() for part in self.parts]
