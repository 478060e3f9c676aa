"""What an extension of ALPS implements: image sets, mask sources, features, assigners, engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer, UInt8, UInt16

from alps.structures.boxes import Boxes
from alps.structures.masks import Masks
from alps.structures.records import Category, Clusters, ImageRecord, Sample

#: What identifies a stage's output: flat names to JSON values; it goes into the fingerprint.
Identity = Mapping[str, Any]


#: ``map``, or what does the same elsewhere: the results come in the order of the items.
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


@runtime_checkable
class ImageSet(Protocol):
    """Images that can be listed cheaply and read one by one."""

    @property
    def name(self) -> str:
        """What the image set is called."""

    @property
    def root(self) -> str:
        """The folder it lies in."""

    def records(self) -> list[ImageRecord]:
        """All images; raises `DatasetNotFound` when there are none."""

    def read(self, record: ImageRecord) -> Sample:
        """Decode one image; raises `ImageError` when it cannot be used."""


@runtime_checkable
class LabelledSet(ImageSet, Protocol):
    """Images with a class per pixel: ground truth, or a label store.

    One may also have ``background``, the id of a class that published means leave out.
    """

    @property
    def ignore_index(self) -> int:
        """The pixel value that is neither learnt nor scored."""

    @property
    def protocol(self) -> str:
        """How scores on this set are to be read, in a line."""

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""

    def read_target(
        self, record: ImageRecord
    ) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """The index map of one image; raises `LabelError` when it cannot be used."""


@runtime_checkable
class MaskSource(Protocol):
    """Where masks come from."""

    @property
    def identity(self) -> Identity:
        """The settings that change the masks."""

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Hear which images come next; a chance to do them as a batch."""

    def __call__(self, sample: Sample) -> Masks:
        """The masks of one image, in its coordinates and without pixels that are no data.

        `alps.masks.valid.keep_data` cuts them; where the image has boxes, a mask says which is its
        own, and the boxes of masks that are dropped are reported.
        """


@runtime_checkable
class Featurizer(Protocol):
    """What a mask looks like."""

    @property
    def identity(self) -> Identity:
        """The settings that change the features."""

    @property
    def channels(self) -> int:
        """C."""

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """One row per mask."""


@runtime_checkable
class Assigner(Protocol):
    """How masks get their classes."""

    @property
    def identity(self) -> Identity:
        """The settings that change the classes."""

    @property
    def num_classes(self) -> int:
        """K."""

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]],
        mapper: Mapper = map,
    ) -> Clusters | None:
        """Find the classes in the features of all shards; None where there is nothing to find.

        Args:
            blocks: a shard's features each; C is 0 where the recipe makes none.
            areas: pixels of the same masks.
            mapper: does parts of the work, here or elsewhere; their number is the data's.
        """

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """(category_id, distance) of each mask of an image; -1 and NaN where there is none."""

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """The index map of an image: what its masks say, and what becomes of bare ground."""

    def categories(self) -> list[Category]:
        """Names and colours."""


@runtime_checkable
class Rank(Protocol):
    """Which of the runs that a launcher has begun this one is."""

    @property
    def rank(self) -> int:
        """0 in a run that stands alone."""

    @property
    def world(self) -> int:
        """How many there are."""


@runtime_checkable
class Engine(Protocol):
    """Where the shards are done."""

    @property
    def place(self) -> Rank:
        """This run among others."""

    def workers(self) -> AbstractContextManager[Run]:
        """What does tasks; its processes live as long as the context."""


@runtime_checkable
class InstanceSet(ImageSet, Protocol):
    """Images with boxes whose true masks may be known."""

    @property
    def has_instances(self) -> bool:
        """Whether any object has a true mask; told before anything is labelled."""

    def categories(self) -> list[Category]:
        """Of the boxes."""

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """The true masks of those boxes that have one; their ``boxes`` say which these are.

        A true mask that cannot be used is told and left out.
        """


@runtime_checkable
class Categorised(ImageSet, Protocol):
    """An image set whose boxes have categories."""

    def categories(self) -> list[Category]:
        """Of its boxes."""


#: Do a task for every item: (place of the item, value), as the values come. A task is a function
#: that gives one value, or a generator of several; items are asked for when a worker is free.
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[int, Any]]]
