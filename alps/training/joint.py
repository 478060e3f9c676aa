"""Several datasets at once: their images in every batch, each scored on its own."""

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

    Each set is split, held out and read as if it were alone (`SegmentationData`); all have one
    crop, the least that any of them allows.

    Args:
        sets: by name.
        batch_size: images per process.
        seed: decides everything random.
        options: of `SegmentationData`, the same for all.

    Raises:
        DatasetNotFound: a set has no images.
        ConfigError: a number out of its range.
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
        """Let the parts know how many processes and steps there are."""
        for part in self.parts:
            part.trainer = self.trainer

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches for the steps that are still to do."""
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
        """Whole images of each set."""
        return [part.val_dataloader() for part in self.parts]
