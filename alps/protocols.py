"""Protocols for extensions: image sets, mask sources, featurizers, assigners and engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer, UInt8, UInt16

from alps.structures.boxes import Boxes
from alps.structures.masks import Masks
from alps.structures.records import Category, Clusters, ImageRecord, Sample

#: The settings that determine a stage's output, which are part of its fingerprint: a flat mapping
#: from names to JSON values.
Identity = Mapping[str, Any]


#: ``map`` or a parallel version of it; yields the results in the order of the items.
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@runtime_checkable
class ImageSet(Protocol):
    """Images that can be listed cheaply and read one by one."""

    @property
    def name(self) -> str:
        """Name of the image set."""

    @property
    def root(self) -> str:
        """Folder of the image set."""

    def records(self) -> list[ImageRecord]:
        """List all images.

        Raises:
            DatasetNotFound: there are no images.
        """

    def read(self, record: ImageRecord) -> Sample:
        """Decode one image.

        Raises:
            ImageError: the image cannot be used.
        """


@runtime_checkable
class ViewedSet(ImageSet, Protocol):
    """Rasters that are read by windows, and whose pixels depend on settings."""

    @property
    def view(self) -> Mapping[str, Any] | None:
        """Settings of `alps.rasters.view.View`, as JSON values; None: the images are not rasters.

        They are part of the fingerprint of the images, and store.json and checkpoints keep them,
        so that stores and models can read the same pixels again.
        """


@runtime_checkable
class BandedSet(ImageSet, Protocol):
    """Images with bands for networks, which see these instead of the RGB image."""

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of the bands of every `Sample.bands`, in this order; None: networks see RGB."""


@runtime_checkable
class LabelledSet(ImageSet, Protocol):
    """Images with a class per pixel: ground truth or a label store.

    The optional attribute ``background`` is the id of a class that published mean scores exclude.
    """

    @property
    def ignore_index(self) -> int:
        """Pixel value that is excluded from training and scores."""

    @property
    def protocol(self) -> str:
        """Evaluation protocol of this set in one line, which is printed with the scores."""

    def categories(self) -> list[Category]:
        """Return the classes; ``id`` is the pixel value."""

    def read_target(
        self, record: ImageRecord
    ) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Read the index map of one image.

        Raises:
            LabelError: the index map cannot be used.
        """


@runtime_checkable
class MaskSource(Protocol):
    """A source of masks."""

    @property
    def identity(self) -> Identity:
        """Settings that change the masks."""

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Prepare the next images, for example as one batch."""

    def __call__(self, sample: Sample) -> Masks:
        """Return the masks of one image, in image coordinates and without no-data pixels.

        `alps.masks.valid.keep_data` removes the no-data pixels. If boxes prompt the
        masks, `Masks.boxes` has the prompt box of each mask, and boxes without a mask are logged.
        """


@runtime_checkable
class StagedMasks(Protocol):
    """A mask source in two stages, so that the device and the CPU work on different images.

    ``masks(sample)`` is ``masks.finish(sample, masks.segment(sample))``. All work of other mask
    sources is done in one thread.
    """

    def segment(self, sample: Sample) -> Masks:
        """Do the work on the device; it is called in the thread that calls ``prefetch``."""

    def finish(self, sample: Sample, masks: Masks) -> Masks:
        """Do the rest; several threads may call this at the same time."""


@runtime_checkable
class Featurizer(Protocol):
    """A feature extractor for masks."""

    @property
    def identity(self) -> Identity:
        """Settings that change the features."""

    @property
    def channels(self) -> int:
        """Length C of the feature vector of a mask."""

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return the features of the masks of one image, one row per mask."""


@runtime_checkable
class ParallelFeaturizer(Protocol):
    """A featurizer that states whether it can be used in several threads; others cannot."""

    @property
    def parallel(self) -> bool:
        """Whether several threads may call it at the same time, also while masks are made."""


@runtime_checkable
class GroupedFeaturizer(Protocol):
    """A featurizer whose vectors have parts of different kinds, such as feature maps."""

    @property
    def channel_groups(self) -> Sequence[int]:
        """Number of channels of each part, in their order in the vector."""


@runtime_checkable
class Assigner(Protocol):
    """A method that assigns classes to masks."""

    @property
    def identity(self) -> Identity:
        """Settings that change the classes."""

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]],
        mapper: Mapper = map,
    ) -> Clusters | None:
        """Fit clusters to the features of all shards.

        Args:
            blocks: features of each shard, (N, C); C is 0 if the recipe has no features.
            areas: areas of the masks of each shard, px.
            mapper: runs parts of the work, possibly in parallel; the number of parts depends only
                on the data.

        Returns:
            The clusters, or None if the assigner does not use clusters.
        """

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Assign a class to each mask of one image.

        Args:
            features: features of the masks, (N, C).
            clusters: the result of `fit`.
            image_id: id of the image.
            masks: the masks, or None if they are not needed.

        Returns:
            ``category_id`` (-1: no class) and ``distance`` (NaN: none) of each mask.
        """

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Draw the index map of one image, including its uncovered pixels.

        Args:
            masks: the N masks of the image.
            category_id: class of each mask; -1: no class.
            ignore_index: value of unlabelled pixels.
        """

    def categories(self) -> list[Category]:
        """Return the names and colours of the classes."""


@runtime_checkable
class Rank(Protocol):
    """The rank of this run among the runs that a launcher has started."""

    @property
    def rank(self) -> int:
        """Rank of this run; 0 without a launcher."""

    @property
    def world_size(self) -> int:
        """Number of runs that the launcher has started."""


@runtime_checkable
class Engine(Protocol):
    """A backend that processes shards."""

    @property
    def rank(self) -> Rank:
        """Rank of this run, and the number of runs."""

    def workers(self) -> AbstractContextManager[TaskRunner]:
        """Start the workers and return a function that runs tasks on them.

        Leaving the context stops the workers.
        """


@runtime_checkable
class InstanceSet(ImageSet, Protocol):
    """Images with boxes that may have ground-truth masks."""

    @property
    def has_instances(self) -> bool:
        """Whether any object has a ground-truth mask; known before labelling starts."""

    def categories(self) -> list[Category]:
        """Return the categories of the boxes."""

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """Read the ground-truth masks of one image; invalid masks are logged and skipped.

        Args:
            record: the image.
            boxes: the boxes of the image.
            size: (H, W) of the image, px.

        Returns:
            One mask for each box that has a ground-truth mask; `Masks.boxes` has these boxes.
        """


@runtime_checkable
class CategorisedSet(ImageSet, Protocol):
    """An image set whose boxes have categories."""

    def categories(self) -> list[Category]:
        """Return the categories of the boxes."""


#: Run a task for every item and yield (index of the item, value) as values become available. A
#: task returns one value or yields several; the next item is requested when a worker is free.
TaskRunner = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[int, Any]]]
