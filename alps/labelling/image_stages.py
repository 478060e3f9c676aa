"""The three stages of one image: reading, the device, and finishing on the CPU."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from alps.errors import ImageError, Unavailable
from alps.labelling.timings import Timings
from alps.protocols import Featurizer, ImageSet, MaskSource, ParallelFeaturizer, StagedMasks
from alps.store.hashes import hash_file, hash_pixels
from alps.store.layout import ImageStatus
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import count_covered
from alps.structures.records import ImageRecord, Sample

#: Error codes of a failed disk or network or of too many open files, not of a damaged file.
UNAVAILABLE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO")
    if hasattr(errno, name)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image between two stages, and after the last one."""

    record: ImageRecord
    timings: Timings
    sha256: str | None = None
    sample: Sample | None = None  # None: not read, or finished
    masks: Masks | None = None
    features: Float32[np.ndarray, "N C"] | None = None
    status: ImageStatus | None = None  # None: not finished, or stored already
    dropped: tuple[str, ...] = ()  # a message for each annotation without a mask

    @property
    def pixels(self) -> int:
        """Number of pixels in memory."""
        return 0 if self.sample is None else self.sample.size[0] * self.sample.size[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStages:
    """The work of each stage.

    Args:
        image_set: the images.
        masks: source of the masks of an image.
        features: computes features of masks. None: no features are needed.
        stored: masks by image, if they exist already.
    """

    image_set: ImageSet
    masks: MaskSource
    features: Featurizer | None
    stored: Mapping[str, Masks] | None

    def read(self, record: ImageRecord) -> Image:
        """Read an image, unless it could not be read when its masks were made.

        Returns:
            The image; without a sample if it cannot be read.

        Raises:
            Unavailable: the disk or the network failed.
            ImageError: an image with stored masks can no longer be read.
        """
        image = Image(record=record, timings=Timings())
        if self.stored is not None and record.image_id not in self.stored:
            return image
        try:
            if self.stored is not None:
                return replace(image, sample=self.image_set.read(record))
            if record.window is None:  # hash before decoding, to detect later changes
                image = replace(image, sha256=hash_file(self.image_set.root, record))
                return replace(image, sample=self.image_set.read(record))
            # A raster may have thousands of windows and not fit into memory.
            sample = self.image_set.read(record)
            return replace(image, sample=sample, sha256=hash_pixels(sample.image, sample.valid))
        except ImageError as error:
            refuse_unavailable(error, Path(self.image_set.root))
            if self.stored is not None:
                raise
            return replace(image, status=_failed(image, error))

    def segment(self, groups: Iterable[list[Image]], timings: Timings) -> Iterator[Image]:
        """Yield the images after the work that only one thread may do.

        Args:
            groups: images that may be encoded as one batch.
            timings: times to which those of the batches are added.
        """
        for group in groups:
            samples = [image.sample for image in group if image.sample is not None]
            if self.stored is None and samples:
                with timings.measure("masks"):
                    self.masks.prefetch(samples)
            for image in group:
                yield self._segment(image)

    def finish(self, image: Image) -> Image:
        """Do the remaining work on an image; several threads may call this at the same time."""
        sample, masks = image.sample, image.masks
        if sample is None or masks is None:
            return image
        rows, status = None, image.status
        dropped: tuple[str, ...] = ()
        if self.stored is None:
            with image.timings.measure("masks", 1):
                if isinstance(self.masks, StagedMasks):
                    masks = self.masks.finish(sample, masks)
            dropped = (*sample.dropped, *_describe_nodata_masks(sample, masks))
            status = _labelled(image, sample, masks, n_dropped=len(dropped))
        if self.features:
            with image.timings.measure("features", 1):
                rows = self.features(sample, masks)
        return replace(
            image, sample=None, masks=masks, features=rows, status=status, dropped=dropped
        )

    def _segment(self, image: Image) -> Image:
        """Make the masks of an image as far as only one thread may do so."""
        if (sample := image.sample) is None:
            return image
        if self.stored is not None:
            masks = self.stored[sample.image_id]
        else:
            segment = self.masks.segment if isinstance(self.masks, StagedMasks) else self.masks
            with image.timings.measure("masks"):
                masks = segment(sample)
        image = replace(image, masks=masks)
        return image if is_parallel(self.features) else self.finish(image)


def is_parallel(features: object) -> bool:
    """Return whether several threads may call a featurizer at the same time, or there is none."""
    return features is None or (isinstance(features, ParallelFeaturizer) and features.parallel)


def refuse_unavailable(error: ImageError, root: Path) -> None:
    """Raise `Unavailable` if an image could not be read because of the disk or the network.

    A shard is committed only once: an image that is skipped during a short network outage would
    remain unlabelled.

    Raises:
        Unavailable: the disk or the network failed.
    """
    exception: BaseException | None = error
    while exception is not None:
        root_missing = (
            isinstance(exception, FileNotFoundError | NotADirectoryError) and not root.exists()
        )
        if root_missing or (isinstance(exception, OSError) and exception.errno in UNAVAILABLE):
            cause = f"{root} no longer exists" if root_missing else "the disk or the network failed"
            raise Unavailable(
                f"{error}; {cause}, so the run stops instead of skipping the image; repeat the "
                "command to resume when it is available again (if only this file is affected, move "
                "it away); finished shards are kept"
            ) from error
        exception = exception.__cause__


def _describe_nodata_masks(sample: Sample, masks: Masks) -> list[str]:
    """Return a message for each box whose mask was dropped because most of it is no-data."""
    if sample.valid is None or sample.boxes is None or masks.boxes is None:
        return []
    kept_ids = {*masks.boxes.object_id.tolist()}
    dropped_ids = [i for i in sample.boxes.object_id.tolist() if i not in kept_ids]
    return [f"annotation {i} (from 0): most of its mask is no data" for i in dropped_ids]


def _failed(image: Image, error: ImageError) -> ImageStatus:
    """Return the status of an image that cannot be read."""
    return ImageStatus(
        image_id=image.record.image_id,
        status="failed",
        error=str(error),
        height=0,
        width=0,
        n_masks=0,
        covered=0,
        sha256=image.sha256,
    )


def _labelled(image: Image, sample: Sample, masks: Masks, *, n_dropped: int) -> ImageStatus:
    """Return the status of an image with all its masks, possibly none."""
    height, width = sample.size
    return ImageStatus(
        image_id=sample.image_id,
        status="ok" if len(masks) else "empty",
        error=None,
        height=height,
        width=width,
        n_masks=len(masks),
        covered=count_covered(masks),
        dropped=n_dropped,
        valid=None if sample.valid is None else rle.encode(sample.valid[None])[0],
        sha256=image.sha256,
        georeference=sample.georeference,
    )
