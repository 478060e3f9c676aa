"""Data module of a single dataset."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import cv2
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset, Sampler

from alps.datasets.label_census import MAX_LABELS, missing_classes, read_split
from alps.datasets.limits import DATA
from alps.datasets.sampler import ShardSampler, StreamSampler
from alps.datasets.segmentation import Batch, Example, SegmentationDataset, collate
from alps.datasets.subset import fraction as take_fraction
from alps.datasets.subset import hold_out
from alps.datasets.transforms import TrainTransform
from alps.errors import ConfigError, DatasetNotFound, ImageError
from alps.pretrained.encoder import Encoder
from alps.protocols import LabelledSet
from alps.structures.bands import BandStatistics
from alps.structures.digest import digest
from alps.structures.findings import AuditableSet, Finding
from alps.structures.records import ImageRecord
from alps.structures.settings import check_settings
from alps.training.lightning_private import batches_started
from alps.training.stopping.interrupt import STOPS
from alps.training.task import SegmentationTask

#: Upper limit of the default crop, in pixels.
CROP = 512
#: Crop sides are multiples of this number of pixels.
DIVISOR = Encoder.divisor
#: Number of images whose sizes determine the default crop and the number of batches read ahead.
SIZE_SAMPLE = 8
#: Bytes of whole images that the loader workers of a process read ahead; at least one batch.
READ_AHEAD = 1 << 30
#: Bytes per pixel: RGB in uint8 and a target in int32; bands are float32.
PIXEL_BYTES, BAND_BYTES = 7, 4
#: Upper limit of the default number of loader workers of a process.
MAX_WORKERS = 16
#: Fixed, so that runs with different seeds are scored on the same images.
HOLD_OUT_SEED = 0


class SegmentationData(LightningDataModule):
    """Batches of one labelled set.

    The images of batch ``s`` and their augmentation depend only on the seed and ``s``, not on the
    number of workers or processes, nor on the step at which a run was resumed.

    Args:
        images: the labelled set.
        batch_size: training images per process and batch.
        crop: side of the training crops, in pixels; None: 512, or less if the images are smaller.
        scale: minimum and maximum factor of random scaling.
        scale_p: probability of random scaling.
        photometric: probability of a random change of brightness, contrast, saturation and hue.
        cat_max_ratio: maximum fraction of a crop in one class; if it is exceeded, the crop is
            drawn again.
        ignore_border: training pixels at most this many pixels away from another class are
            ignored; 0: none.
        fraction: fraction of the training images to use; smaller subsets are contained in larger
            ones.
        hold_out: fraction of the training images to validate on if there is no split ``val``.
        num_workers: number of loader workers; None: one per core that this process may use, at
            most `MAX_WORKERS`, or 0 if training runs on the CPU, where workers would compete with
            the model.
        seed: seed of all random choices.

    Raises:
        DatasetNotFound: there are no images.
        ConfigError: a number is out of range.
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
        ignore_border: int = 0,
        fraction: float = 1.0,
        hold_out: float = 0.05,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        settings = {
            "batch_size": batch_size,
            "crop": crop,
            "scale": scale,
            "scale_p": scale_p,
            "photometric": photometric,
            "cat_max_ratio": cat_max_ratio,
            "ignore_border": ignore_border,
            "fraction": fraction,
            "hold_out": hold_out,
            "num_workers": num_workers,
        }
        check_settings(DATA, settings)
        self.images = images
        #: Bands that the model sees, and their means, which fill pixels without data; None: RGB.
        self.statistics: BandStatistics | None = None
        self.batch_size = batch_size
        self.scale, self.scale_p = scale, scale_p
        self.photometric = photometric
        self.cat_max_ratio = cat_max_ratio
        self.ignore_border = ignore_border
        self.seed = seed
        self.num_workers = num_workers
        self.train, self.val, self.test = _split(images, hold_out)
        self._records = [*self.train, *self.val, *self.test]
        if crop is not None:
            self.crop = crop
        self.train = take_fraction(images, self.train, fraction, seed)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the list of images, and of the labels if they come from a label store.

        It does not depend on the bytes of image files, so damaged images may be repaired.
        """
        labels = getattr(self.images, "fingerprint", "")
        rows = [(r.split, r.image_id, r.file_name) for r in self._records]
        return digest(labels, rows)

    @cached_property
    def crop(self) -> int:
        """Side of the training crops in pixels; the default depends on the sizes of images."""
        side = min([CROP, *(min(size) for size in self._sizes)])
        return max(DIVISOR, side // DIVISOR * DIVISOR)

    @cached_property
    def _sizes(self) -> list[tuple[int, int]]:
        """(H, W) of a sample of the images, independent of ``fraction`` and ``seed``."""
        sizes = []
        for record in self._records[:: -(-len(self._records) // SIZE_SAMPLE)]:
            with suppress(ImageError):  # reported when the image is used
                sizes.append(self.images.read(record).size)
        return sizes

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the remaining training steps."""
        assert self.trainer is not None
        dataset = self.train_dataset()
        sampler = StreamSampler(
            len(dataset), batch_size=self.batch_size, seed=self.seed, **position(self.trainer)
        )
        return loader(dataset, sampler, collate, self.trainer, self.num_workers)

    @property
    def parts(self) -> list[SegmentationData]:
        """List of this data module, like `JointData.parts`."""
        return [self]

    def train_dataset(self) -> SegmentationDataset:
        """Return the training images with random augmentation.

        Raises:
            DatasetNotFound: there are no training images.
        """
        if not self.train:
            raise self._too_few("train")
        transform = TrainTransform(
            crop=self.crop,
            scale=self.scale,
            scale_p=self.scale_p,
            cat_max_ratio=self.cat_max_ratio,
            photometric_p=self.photometric,
            ignore_index=self.images.ignore_index,
            ignore_border=self.ignore_border,
            statistics=self.statistics,
        )
        return SegmentationDataset(self.images, self.train, transform, self.statistics)

    def label_findings(self, *, strict: bool = False) -> list[Finding]:
        """Return inconsistencies of the images and labels in the training and validation splits.

        Args:
            strict: whether to read all labels until each class has occurred; if not, at most
                `MAX_LABELS` labels per split are read.

        Raises:
            LabelError: a label cannot be read, or no pixel of a split is labelled.
        """
        max_labels = None if strict else MAX_LABELS
        splits = [
            read_split(self.images, records, split, max_labels=max_labels)
            for split, records in (("train", self.train), ("val", self.val))
        ]
        findings = self.images.findings() if isinstance(self.images, AuditableSet) else []
        return [*findings, *missing_classes(self.images, splits)]

    def val_dataloader(self) -> DataLoader[list[Example]]:
        """Return the loader of whole validation images."""
        return self._whole_images(self.val, "val")

    def test_dataloader(self) -> DataLoader[list[Example]]:
        """Return the loader of whole test images, or of validation images if there are none."""
        return self._whole_images(self.test or self.val, "test or val")

    def _whole_images(
        self, records: Sequence[ImageRecord], split: str
    ) -> DataLoader[list[Example]]:
        trainer = self.trainer
        assert trainer is not None
        if not records:
            raise self._too_few(split)
        if len(records) < trainer.world_size:
            held_out = split == "val" and records[0].split == "train"
            raise ConfigError(
                f"{len(records)} images in {split} are too few for {trainer.world_size} processes; "
                f"set trainer.devices={len(records)} or less"
                + (", or increase data.hold_out" if held_out else "")
            )
        batch_size, in_flight = self._whole_at_once(trainer)
        processes = min(count_workers(trainer, self.num_workers), in_flight)
        dataset: Dataset[Any] = SegmentationDataset(
            self.images, records, statistics=self.statistics
        )
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=ShardSampler(len(records), trainer.global_rank, trainer.world_size),
            collate_fn=list,
            num_workers=processes,
            prefetch_factor=1 if processes else None,
            persistent_workers=processes > 0,  # for all validations of the run
            pin_memory=_feeds_gpu(trainer),
            worker_init_fn=start_worker,
        )

    def _whole_at_once(self, trainer: Trainer) -> tuple[int, int]:
        """Return the number of whole images per batch, and of batches that may be read ahead.

        Images that fit in a window are batched; larger images form batches of one.
        """
        task = trainer.lightning_module
        assert isinstance(task, SegmentationTask)
        window = task.window
        sides = [max(size) for size in self._sizes]
        batch_size = window.batch_size if max(sides, default=0) <= window.crop else 1
        pixels = max((height * width for height, width in self._sizes), default=1)
        bands = 0 if self.statistics is None else len(self.statistics.names)
        image_bytes = pixels * (PIXEL_BYTES + bands * BAND_BYTES)
        return batch_size, max(1, READ_AHEAD // (batch_size * image_bytes))

    def _too_few(self, split: str) -> DatasetNotFound:
        counts = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        return DatasetNotFound(
            f"{self.images.name} at {self.images.root} has no image in {split} ({counts}): "
            "training needs images in train, and in val unless train has at least two"
        )


def position(trainer: Trainer) -> dict[str, int]:
    """Return arguments of `StreamSampler`: the rank of this process and its first batch."""
    return {
        "total_batches": trainer.max_steps * trainer.accumulate_grad_batches,
        # Batches that a resumed run has already completed.
        "start": batches_started(trainer),
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
    """Return a loader of training batches.

    Args:
        dataset: the training images.
        sampler: yields the indices or draws of a batch.
        collate: stacks examples into a batch.
        trainer: determines the device.
        num_workers: number of loader workers; None: the default of `count_workers`.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=count_workers(trainer, num_workers),
        pin_memory=_feeds_gpu(trainer),
        worker_init_fn=start_worker,
    )


def count_workers(trainer: Trainer, num_workers: int | None) -> int:
    """Return the number of loader workers.

    The default is one per core that this process may use, at most `MAX_WORKERS`, or 0 if training
    runs on the CPU. The processes of a run on one machine share its cores, except under SLURM,
    which gives each task cores of its own.
    """
    if num_workers is not None:
        return num_workers
    if trainer.strategy.root_device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if not isinstance(environment, SLURMEnvironment):
        cores //= trainer.num_devices
    return min(MAX_WORKERS, max(1, cores))


def start_worker(worker: int) -> None:
    """Prepare a loader worker: one thread, no reaction to the signals that stop a run.

    OpenCV's threads do not survive a fork, but their locks do, possibly locked.
    """
    cv2.setNumThreads(0)
    ignore_signals(worker)


def _feeds_gpu(trainer: Trainer) -> bool:
    return trainer.strategy.root_device.type == "cuda"


def ignore_signals(_worker: int) -> None:
    """Make a loader worker ignore the signals that stop a run.

    A terminal or a job scheduler sends these signals to all processes. The training process
    finishes its step and then stops its workers; if a worker exited earlier, the step would fail.
    SIGTERM from the training process is obeyed: after an error, Python sends it to the remaining
    workers at exit and then waits for them without a time limit.
    """
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # other systems do not report the sender of a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm, args=(os.getppid(),), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_on_sigterm(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _split(
    images: LabelledSet, fraction: float
) -> tuple[list[ImageRecord], list[ImageRecord], list[ImageRecord]]:
    records = images.records()
    train, val, test = ([r for r in records if r.split == s] for s in ("train", "val", "test"))
    if not val and len(train) > 1:
        train, val = hold_out(train, fraction, HOLD_OUT_SEED)
    return train, val, test
