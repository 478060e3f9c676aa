"""Which images a run learns from and is scored on, and their batches."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from alps.datasets.label_census import ENOUGH, missing_classes, read_split
from alps.datasets.sampler import ShardSampler, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.datasets.subset import fraction as take_fraction
from alps.datasets.subset import hold_out
from alps.datasets.transforms import TrainTransform
from alps.errors import ConfigError, DatasetNotFound, ImageError
from alps.pretrained.encoder import Encoder
from alps.protocols import LabelledSet
from alps.structures.digest import digest
from alps.structures.findings import Audited, Finding
from alps.structures.numbers import check_number, check_numbers, is_number
from alps.structures.records import ImageRecord
from alps.training.stopping.interrupt import STOPS
from alps.training.task import SegmentationTask

#: The largest crop that is chosen where none is asked for.
CROP = 512
#: What sides of crops are multiples of.
DIVISOR = Encoder.divisor
#: What a range of scales is.
SCALE = "the least and the most, as [0.5,2.0]"
#: Images whose size is looked at, to choose a crop and how many are read at once.
LOOKED_AT = 8
#: Bytes of whole images, read ahead by the loader's processes of one process; one batch at least.
READ_AHEAD = 1 << 30
#: Bytes of a pixel: RGB and a target of int32.
PIXEL = 7
#: Not the run's seed: all runs on a dataset are scored on the same images.
HOLD_OUT_SEED = 0


class SegmentationData(LightningDataModule):
    """Batches of one labelled set.

    Which images make up batch ``s``, and how each is augmented, depends on the seed and ``s``
    alone: not on the workers, the processes or where a run was resumed.

    Args:
        images: the labelled set.
        batch_size: images per process that are learnt from at once.
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
        for name, value, interval, what in (
            ("scale_p", scale_p, "[0, 1]", "a probability"),
            ("photometric", photometric, "[0, 1]", "a probability"),
            ("cat_max_ratio", cat_max_ratio, "(0, 1]", "a share"),
        ):
            check_number(f"data.{name}", value, interval, what)
        check_number("data.batch_size", batch_size, "[1, inf)", whole=True)
        check_number("data.num_workers", num_workers, "[0, inf)", whole=True, optional=True)
        check_numbers("data.scale", scale, "(0, inf)", SCALE)
        if len(scale) != 2 or scale[0] > scale[1]:
            raise ConfigError(f"data.scale={scale}: expected {SCALE}")
        if crop is not None and not (
            is_number(crop, "[1, inf)", whole=True) and crop % DIVISOR == 0
        ):
            raise ConfigError(f"data.crop={crop}: expected null or a multiple of {DIVISOR} px")
        self.images = images
        self.batch_size = batch_size
        self.scale, self.scale_p = scale, scale_p
        self.photometric = photometric
        self.cat_max_ratio = cat_max_ratio
        self.seed = seed
        self.num_workers = num_workers
        self.train, self.val, self.test = _split(images, hold_out)
        self._records = [*self.train, *self.val, *self.test]
        if crop is not None:
            self.crop = crop
        self.train = take_fraction(images, self.train, fraction, seed)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the list of images, and of the labels where they come from a label store.

        No file is opened for it, and bytes do not count: a broken image may be mended.
        """
        labels = getattr(self.images, "fingerprint", "")
        rows = [(r.split, r.image_id, r.file_name) for r in self._records]
        return digest(labels, rows)

    @cached_property
    def crop(self) -> int:
        """Side of what is learnt from; what is not asked for is what some images allow."""
        side = min([CROP, *(min(size) for size in self._sizes)])
        return max(DIVISOR, side // DIVISOR * DIVISOR)

    @cached_property
    def _sizes(self) -> list[tuple[int, int]]:
        """(H, W) of some images of all splits, whatever the subset and the seed."""
        sizes = []
        for record in self._records[:: -(-len(self._records) // LOOKED_AT)]:
            with suppress(ImageError):  # told when it is needed
                sizes.append(self.images.read(record).size)
        return sizes

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

    def label_findings(self, *, strict: bool = False) -> list[Finding]:
        """Return what does not fit together in the images and labels that are learnt and scored.

        Labels are read until each class was found; with ``strict``, all of them if need be.

        Raises:
            LabelError: a label cannot be read, or no pixel of a split is labelled.
        """
        enough = None if strict else ENOUGH
        splits = [
            read_split(self.images, records, split, enough=enough)
            for split, records in (("train", self.train), ("val", self.val))
        ]
        own = self.images.findings() if isinstance(self.images, Audited) else []
        return [*own, *missing_classes(self.images, splits)]

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
        batch_size, in_flight = self._whole_at_once(trainer)
        processes = min(workers(trainer, self.num_workers), in_flight)
        dataset: Dataset[Any] = SegmentationDataset(self.images, records)
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=ShardSampler(len(records), trainer.global_rank, trainer.world_size),
            collate_fn=list,
            num_workers=processes,
            prefetch_factor=1 if processes else None,
            worker_init_fn=leave_signals,
        )

    def _whole_at_once(self, trainer: Trainer) -> tuple[int, int]:
        """How many whole images a batch has, and how many batches may be read ahead.

        Images of one window share the net's passes; of larger ones each fills passes by itself.
        """
        task = trainer.lightning_module
        assert isinstance(task, SegmentationTask)
        window = task.window
        sides = [max(size) for size in self._sizes]
        batch_size = window.batch_size if max(sides, default=0) <= window.crop else 1
        pixels = max((height * width for height, width in self._sizes), default=1)
        return batch_size, max(1, READ_AHEAD // (batch_size * pixels * PIXEL))

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
    SIGTERM from that process is obeyed: where an error leaves a loader behind, it is what Python
    sends at exit before it waits for the loader without a limit.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere nothing tells who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _split(
    images: LabelledSet, share: float
) -> tuple[list[ImageRecord], list[ImageRecord], list[ImageRecord]]:
    records = images.records()
    train, val, test = ([r for r in records if r.split == s] for s in ("train", "val", "test"))
    if not val and len(train) > 1:
        train, val = hold_out(train, share, HOLD_OUT_SEED)
    return train, val, test
