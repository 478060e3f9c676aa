"""Which images a run learns from and is scored on, and their batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset

from alps.datasets.sampler import ShardSampler, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.datasets.subset import fraction as take_fraction
from alps.datasets.subset import hold_out
from alps.datasets.transforms import TrainTransform
from alps.encoders import Encoder
from alps.errors import ConfigError, DatasetNotFound
from alps.types import ImageRecord, LabelledSet

#: The largest crop that is chosen where none is asked for.
CROP = 512
#: What sides of crops are multiples of.
DIVISOR = Encoder.divisor


class SegmentationData(LightningDataModule):
    """Batches of one labelled set.

    Which images make up batch ``s``, and how each is augmented, depends on the seed and ``s``
    alone: not on the workers, the processes or where a run was resumed.

    Args:
        images: the labelled set.
        batch_size: images per process.
        crop: side of the square that is learnt from; None: 512, or what the images allow.
        scale: range of random scales.
        photometric: probability of a change of brightness, contrast, saturation and hue.
        fraction: share of the training images; subsets are nested.
        hold_out: share of the training images that is scored on where there is no split ``val``.
        num_workers: loader processes; None: one per core, at most eight, and none on a CPU, where
            they would take the net's cores.
        seed: decides everything random.

    Raises:
        DatasetNotFound: a split that is needed is empty.
        ConfigError: a number out of its range.
    """

    def __init__(
        self,
        images: LabelledSet,
        *,
        batch_size: int,
        crop: int | None = None,
        scale: Sequence[float] = (0.5, 2.0),
        photometric: float = 0.5,
        fraction: float = 1.0,
        hold_out: float = 0.05,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"data.batch_size={batch_size}: expected at least 1")
        if crop is not None and (crop < DIVISOR or crop % DIVISOR):
            raise ConfigError(
                f"data.crop={crop}: encoders need a multiple of {DIVISOR} px; "
                f"try {max(1, round(crop / DIVISOR)) * DIVISOR}"
            )
        self.images = images
        self.batch_size = batch_size
        self.scale = scale
        self.photometric = photometric
        self.seed = seed
        self.num_workers = num_workers
        self.train, self.val, self.test = _split(images, fraction, hold_out, seed)
        self.crop = crop or self._fitting_crop()

    def _fitting_crop(self) -> int:
        records = self.train or self.val or self.test
        side = min(CROP, *self.images.read(records[0]).size)
        return max(DIVISOR, side // DIVISOR * DIVISOR)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches for the steps that are still to do."""
        trainer = self.trainer
        assert trainer is not None
        transform = TrainTransform(
            crop=self.crop,
            scale=self.scale,
            photometric_p=self.photometric,
            ignore_index=self.images.ignore_index,
        )
        sampler = StreamSampler(
            len(self.train),
            batch_size=self.batch_size,
            total_batches=trainer.max_steps * trainer.accumulate_grad_batches,
            # Batches that a resumed run has behind it.
            start=trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            seed=self.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        dataset: Dataset[Any] = SegmentationDataset(self.images, self.train, transform)
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self._workers(trainer),
            pin_memory=trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[list[Example]]:
        """Whole images of the split ``val``, or of those held out."""
        return self._whole_images(self.val)

    def test_dataloader(self) -> DataLoader[list[Example]]:
        """Whole images of the split ``test``, or of ``val`` where there is none."""
        return self._whole_images(self.test or self.val)

    def _whole_images(self, records: Sequence[ImageRecord]) -> DataLoader[list[Example]]:
        trainer = self.trainer
        assert trainer is not None
        dataset: Dataset[Any] = SegmentationDataset(self.images, records)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=ShardSampler(len(records), trainer.global_rank, trainer.world_size),
            collate_fn=list,
            num_workers=self._workers(trainer),
        )

    def _workers(self, trainer: Trainer) -> int:
        if self.num_workers is not None:
            return self.num_workers
        on_cpu = trainer.strategy.root_device.type == "cpu"
        return 0 if on_cpu else min(8, os.cpu_count() or 1)


def _split(
    images: LabelledSet, fraction: float, share: float, seed: int
) -> tuple[list[ImageRecord], list[ImageRecord], list[ImageRecord]]:
    records = images.records()
    train, val, test = ([r for r in records if r.split == s] for s in ("train", "val", "test"))
    if not val and len(train) > 1:
        train, val = hold_out(train, share, seed)
    if not train or not val:
        counts = f"train {len(train)}, val {len(val)}, test {len(test)}"
        raise DatasetNotFound(
            f"{images.name} at {images.root} has too few images ({counts}): "
            "training needs some in train, and some in val or enough in train to hold out"
        )
    return take_fraction(images, train, fraction, seed), val, test
