"""Which images a run learns from and is scored on, and their batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from alps.datasets.sampler import ShardSampler, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.datasets.subset import fraction as take_fraction
from alps.datasets.subset import hold_out
from alps.datasets.transforms import TrainTransform
from alps.encoders import Encoder
from alps.errors import ConfigError, DatasetNotFound, ImageError
from alps.training.interrupt import STOPS
from alps.types import ImageRecord, LabelledSet

#: The largest crop that is chosen where none is asked for.
CROP = 512
#: What sides of crops are multiples of.
DIVISOR = Encoder.divisor
#: Images whose size is looked at to choose a crop.
LOOKED_AT = 8
#: Not the run's seed: all runs on a dataset are scored on the same images.
HOLD_OUT_SEED = 0


class SegmentationData(LightningDataModule):
    """Batches of one labelled set.

    Which images make up batch ``s``, and how each is augmented, depends on the seed and ``s``
    alone: not on the workers, the processes or where a run was resumed.

    Args:
        images: the labelled set.
        batch_size: images per process.
        crop: side of the square that is learnt from; None: 512, or what the images allow.
        scale: range of random scales.
        scale_p: probability to scale at all.
        photometric: probability of a change of brightness, contrast, saturation and hue.
        cat_max_ratio: crops of which one class fills more than this share are drawn again.
        fraction: share of the training images; subsets are nested.
        hold_out: share of the training images that is scored on where there is no split ``val``.
        num_workers: loader processes; None: one per core, at most eight, and none on a CPU, where
            they would take the net's cores.
        seed: decides everything random.

    Raises:
        DatasetNotFound: there are no images.
        ConfigError: a number out of its range.
    """

    def __init__(
        self,
        images: LabelledSet,
        *,
        batch_size: int,
        crop: int | None = None,
        scale: Sequence[float] = (0.5, 2.0),
        scale_p: float = 1.0,
        photometric: float = 0.5,
        cat_max_ratio: float = 0.75,
        fraction: float = 1.0,
        hold_out: float = 0.05,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, valid, expected in (
            ("batch_size", batch_size, _is_whole(batch_size, 1), "a whole number from 1 on"),
            (
                "crop",
                crop,
                crop is None or (_is_whole(crop, DIVISOR) and crop % DIVISOR == 0),
                f"null or a multiple of {DIVISOR} px",
            ),
            ("scale", scale, _is_range(scale), "the least and the most, as [0.5,2.0]"),
            ("scale_p", scale_p, 0 <= scale_p <= 1, "a probability"),
            ("photometric", photometric, 0 <= photometric <= 1, "a probability"),
            ("cat_max_ratio", cat_max_ratio, 0 < cat_max_ratio <= 1, "a share in (0, 1]"),
            (
                "num_workers",
                num_workers,
                num_workers is None or _is_whole(num_workers, 0),
                "null or a whole number from 0 on",
            ),
        ):
            if not valid:
                raise ConfigError(f"data.{name}={value}: expected {expected}")
        self.images = images
        self.batch_size = batch_size
        self.scale, self.scale_p = scale, scale_p
        self.photometric = photometric
        self.cat_max_ratio = cat_max_ratio
        self.seed = seed
        self.num_workers = num_workers
        self.train, self.val, self.test = _split(images, hold_out)
        self.crop = crop or self._fitting_crop()
        self.train = take_fraction(images, self.train, fraction, seed)

    def _fitting_crop(self) -> int:
        """What some images of all splits allow, whatever the subset and the seed."""
        records = [*self.train, *self.val, *self.test]
        side = CROP
        for record in records[:: -(-len(records) // LOOKED_AT)]:
            with suppress(ImageError):  # told when it is needed
                side = min(side, *self.images.read(record).size)
        return max(DIVISOR, side // DIVISOR * DIVISOR)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches for the steps that are still to do."""
        assert self.trainer is not None
        dataset = self.train_dataset()
        sampler = StreamSampler(
            len(dataset), batch_size=self.batch_size, seed=self.seed, **position(self.trainer)
        )
        return loader(dataset, sampler, collate, self.trainer, self.num_workers)

    @property
    def parts(self) -> list[SegmentationData]:
        """The datasets: this one."""
        return [self]

    def train_dataset(self) -> SegmentationDataset:
        """Random views of the training images; raises `DatasetNotFound` when there are none."""
        if not self.train:
            raise self._too_few("train")
        transform = TrainTransform(
            crop=self.crop,
            scale=self.scale,
            scale_p=self.scale_p,
            cat_max_ratio=self.cat_max_ratio,
            photometric_p=self.photometric,
            ignore_index=self.images.ignore_index,
        )
        return SegmentationDataset(self.images, self.train, transform)

    def val_dataloader(self) -> DataLoader[list[Example]]:
        """Whole images of the split ``val``, or of those held out."""
        return self._whole_images(self.val, "val")

    def test_dataloader(self) -> DataLoader[list[Example]]:
        """Whole images of the split ``test``, or of ``val`` where there is none."""
        return self._whole_images(self.test or self.val, "test or val")

    def _whole_images(
        self, records: Sequence[ImageRecord], split: str
    ) -> DataLoader[list[Example]]:
        trainer = self.trainer
        assert trainer is not None
        if not records:
            raise self._too_few(split)
        if len(records) < trainer.world_size:
            raise ConfigError(
                f"{len(records)} images in {split} are too few for {trainer.world_size} processes; "
                f"set trainer.devices={len(records)} or less, or a larger data.hold_out"
            )
        dataset: Dataset[Any] = SegmentationDataset(self.images, records)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=ShardSampler(len(records), trainer.global_rank, trainer.world_size),
            collate_fn=list,
            num_workers=workers(trainer, self.num_workers),
            worker_init_fn=leave_signals,
        )

    def _too_few(self, split: str) -> DatasetNotFound:
        counts = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        return DatasetNotFound(
            f"{self.images.name} at {self.images.root} has no image in {split} ({counts}): "
            "training needs some in train, and some in val or enough in train to hold out"
        )


def position(trainer: Trainer) -> dict[str, int]:
    """Where in the stream of batches this process is, as its sampler wants to know."""
    return {
        "total_batches": trainer.max_steps * trainer.accumulate_grad_batches,
        # Batches that a resumed run has behind it.
        "start": trainer.fit_loop.epoch_loop.batch_progress.current.ready,
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
    }


def loader(
    dataset: Dataset[Any],
    sampler: Sampler[Any],
    collate: Callable[[list[Any]], Batch],
    trainer: Trainer,
    num_workers: int | None,
) -> DataLoader[Batch]:
    """Batches to learn from."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers(trainer, num_workers),
        pin_memory=trainer.strategy.root_device.type == "cuda",
        worker_init_fn=leave_signals,
    )


def workers(trainer: Trainer, wanted: int | None) -> int:
    """Loader processes; None: one per core, at most eight, and none on a CPU."""
    if wanted is not None:
        return wanted
    on_cpu = trainer.strategy.root_device.type == "cpu"
    return 0 if on_cpu else min(8, os.cpu_count() or 1)


def leave_signals(_worker: int) -> None:
    """Ignore what stops a run, for it reaches all processes of a terminal or of a job.

    The process that learns ends its step and then its loaders; one that dies first is an error.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def _split(
    images: LabelledSet, share: float
) -> tuple[list[ImageRecord], list[ImageRecord], list[ImageRecord]]:
    records = images.records()
    train, val, test = ([r for r in records if r.split == s] for s in ("train", "val", "test"))
    if not val and len(train) > 1:
        train, val = hold_out(train, share, HOLD_OUT_SEED)
    return train, val, test


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and value >= least


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, Sequence) and all(isinstance(n, int | float) for n in value)
    return numbers and len(value) == 2 and 0 < value[0] <= value[1]
