"""A torch dataset of a labelled image set; it checks every label that it reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Integer, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from alps.datasets.bands import check_sample
from alps.datasets.sampler import Draw
from alps.errors import ImageError, LabelError
from alps.protocols import LabelledSet
from alps.structures.bands import BandStatistics, to_float
from alps.structures.paint import ignore_nodata
from alps.structures.records import ImageRecord, Sample

logger = logging.getLogger(__name__)

#: Number of consecutive unreadable images after which training stops; the disk has probably failed.
MAX_UNREADABLE = 20

#: RGB, or bands as stored.
Image = UInt8[Tensor, "3 H W"] | Float32[Tensor, "C H W"]
#: uint8 if all class ids fit, to transfer fewer bytes from the workers; otherwise int32.
Target = UInt8[Tensor, "H W"] | Int32[Tensor, "H W"]
Transform = Callable[[Image, Target], tuple[Image, Target]]


class Example(NamedTuple):
    """One image and its target."""

    image: Image
    target: Target
    image_id: str
    rgb: UInt8[Tensor, "3 H W"] | None = None  # for pictures, if ``image`` has bands


class Batch(NamedTuple):
    """Stacked examples of equal size, sorted by dataset."""

    image: UInt8[Tensor, "B 3 H W"] | Float32[Tensor, "B C H W"]
    target: UInt8[Tensor, "B H W"] | Int32[Tensor, "B H W"]
    image_ids: list[str]
    counts: tuple[int, ...]  # number of images of each dataset, possibly 0


def collate(examples: list[Example]) -> Batch:
    """Stack examples of equal size."""
    return Batch(
        torch.stack([example.image for example in examples]),
        torch.stack([example.target for example in examples]),
        [example.image_id for example in examples],
        (len(examples),),
    )


class SegmentationDataset(Dataset[Example]):
    """Images and checked targets; no-data pixels are ignored.

    ``dataset[draw]`` is for training: all random choices depend on the draw's seed, and torch's
    global generator does not change. An image that cannot be read is logged once and replaced by
    the next readable image. ``dataset[index]`` is for evaluation: an unreadable image raises
    `ImageError`, because replacing it would falsify the scores.

    Args:
        images: the labelled set.
        records: the images to use.
        transform: function of image and target. None: no transform.
        statistics: the bands that examples have, in float32, with the mean of each band where there
            is no data. None: examples have RGB images.
    """

    def __init__(
        self,
        images: LabelledSet,
        records: Sequence[ImageRecord],
        transform: Transform | None = None,
        statistics: BandStatistics | None = None,
    ) -> None:
        self.images = images
        self.records = records
        self.transform = transform
        self.statistics = statistics
        self.unreadable: set[str] = set()  # names of unreadable files, in this process
        self._num_classes = len(images.categories())
        highest = max(self._num_classes - 1, images.ignore_index)
        self._dtype = np.uint8 if images.ignore_index >= 0 and highest < 256 else np.int32

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw | int) -> Example:
        """Return an example.

        Raises:
            ImageError: the image cannot be read or has other bands; for a draw, none of
                `MAX_UNREADABLE` consecutive images from this one on.
            LabelError: the label does not have the size of the image, or has an unknown class.
        """
        if not isinstance(draw, Draw):
            return self._transformed(self._read(self.records[draw]))
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(draw.seed)  # torch.manual_seed also seeds the GPUs
            return self._transformed(self._read_from(draw.index))

    def _transformed(self, example: Example) -> Example:
        if self.transform is None:
            return example
        image, target = self.transform(example.image, example.target)
        return Example(image, target, example.image_id)  # without RGB: pictures show whole images

    def _read_from(self, index: int) -> Example:
        """Return the first readable image at or after ``index``."""
        attempts = min(MAX_UNREADABLE, len(self))
        for i in range(index, index + attempts):
            record = self.records[i % len(self)]
            try:
                return self._read(record)
            except ImageError as error:
                last = error
                if record.file_name not in self.unreadable:
                    self.unreadable.add(record.file_name)
                    logger.warning(
                        "%s; replaced by the next image (%d unreadable so far)",
                        error,
                        len(self.unreadable),
                    )
        raise ImageError(
            f"{attempts} consecutive images of {self.images.name} cannot be read; check "
            f"{self.images.root}; the last error: {last}"
        ) from last

    def _read(self, record: ImageRecord) -> Example:
        sample = self.images.read(record)
        target = self.images.read_target(record)
        label = f"the label of {record.file_name} in {self.images.root}"
        if target.shape != sample.size:
            raise LabelError(
                f"{label} has (height, width) = {target.shape} and its image {sample.size}; "
                "expected equal sizes; cut or export both again"
            )
        # Resizing is faster with channels last in memory.
        rgb = torch.tensor(sample.image).permute(2, 0, 1)
        image, valid = (rgb, sample.valid) if self.statistics is None else self._bands(sample)
        target = ignore_nodata(target, valid, self.images.ignore_index)
        self._check_values(target, label)
        return Example(
            image,
            torch.from_numpy(target.astype(self._dtype)),
            sample.image_id,
            None if self.statistics is None else rgb,
        )

    def _bands(
        self, sample: Sample
    ) -> tuple[Float32[Tensor, "C H W"], Bool[np.ndarray, "H W"] | None]:
        """Return the bands of an image, and the pixels that have data; None: all."""
        assert self.statistics is not None
        check_sample(sample, self.statistics.names)
        assert sample.bands is not None
        values, valid = to_float(sample.bands, sample.valid, self.statistics.mean)
        return torch.from_numpy(values), valid

    def _check_values(self, target: Integer[np.ndarray, "H W"], label: str) -> None:
        classes, ignore_index = self._num_classes, self.images.ignore_index
        invalid = target[(target >= classes) & (target != ignore_index)]
        if invalid.size:
            values = ", ".join(map(str, np.unique(invalid)[:5]))
            from_one = getattr(self.images, "reduce_zero_label", None) is False
            remedy = "correct the label or dataset.classes"
            if from_one and not (target == 0).any() and invalid.max() == classes:
                remedy += "; for labels that start at 1, set dataset.reduce_zero_label=true"
            raise LabelError(
                f"{label} contains the value {values} at {invalid.size} pixels; expected 0 to "
                f"{classes - 1} ({classes} classes) or {ignore_index} (ignored); {remedy}"
            )
