"""The values that pass between the rooms: frozen, checked where they are made, indexable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64, UInt8, UInt16

from alps import rle
from alps.arrays import check_array
from alps.boxes import Boxes
from alps.errors import ImageError
from alps.geometry import Tile, cut_tiles

#: Bytes of a file's name, and of a path below the store's, on the disks that allow least of both.
LONGEST_NAME, LONGEST_PATH = 255, 3072
#: Of 16 bits, the last of which is ignore_index.
LARGEST_ID = 65534
#: What identifies a stage's output: flat names to JSON values; it goes into the fingerprint.
Identity = Mapping[str, Any]
#: ``map``, or what does the same elsewhere: the results come in the order of the items.
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


#: What a plain relative POSIX path has not: nothing, a root, a step up, signs of control.
UNFIT = re.compile(r"^$|^/|(?:^|/)\.\.(?:/|$)|[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of an image set, before it is read.

    ``image_id`` names every file written for the image, so only a plain relative POSIX path passes,
    and only one to which a disk lets ".png" be added.

    Raises:
        ImageError: ``image_id`` or ``split`` is no such path, or a number is negative.
    """

    image_id: str
    file_name: str
    split: str = "train"
    bytes: int = 0
    video_id: str | None = None
    frame_index: int | None = None
    annotations: str | None = None  # a digest of them: a box that moved makes other labels, too
    # JSON with what the source calls the image and, in their order, its annotations.
    source_ids: str | None = None

    def __post_init__(self) -> None:
        for name, part in (("image_id", self.image_id), ("split", self.split)):
            if not isinstance(part, str) or UNFIT.search(part):
                raise ImageError(
                    f"{name} {part!r} is not a plain relative path (file {self.file_name!r}); "
                    "rename the file"
                )
        for name, number in (("bytes", self.bytes), ("frame_index", self.frame_index)):
            if number is not None and number < 0:
                raise ImageError(
                    f"{name} of image {self.image_id!r} is {number}, expected 0 or more"
                )
        path = f"{self.image_id}.png".encode(errors="surrogatepass")
        longest = max(map(len, path.split(b"/")))
        if longest > LONGEST_NAME or len(path) > LONGEST_PATH:
            raise ImageError(
                f"image_id {self.image_id[:60]!r}… is too long: with '.png' it has {len(path)} "
                f"bytes, {longest} of them in one name, the limits are {LONGEST_PATH} and "
                f"{LONGEST_NAME}; rename the file"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image, read.

    Pixels that are not ``valid`` are no data: they belong to no mask, feature, class or loss. What
    a file holds there is set to 0, so that nothing can depend on it. ``valid`` is None where every
    pixel is data, also when an array that is True everywhere is passed.

    Raises:
        ImageError: ``image`` or ``valid`` has another type or shape.
    """

    image_id: str
    image: UInt8[np.ndarray, "H W 3"]  # RGB; 0 where it is not valid
    boxes: Boxes | None = None  # None: the image set has none; an image may have no box, too
    dropped: tuple[str, ...] = ()  # a line for each annotation that cannot be used
    valid: Bool[np.ndarray, "H W"] | None = None  # None: every pixel is data

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.shape[2:] != (3,):
            raise ImageError(
                f"image {self.image_id!r} is {self.image.dtype} of shape {self.image.shape}, "
                "expected RGB as uint8 of shape (H, W, 3); convert it with alps.images.read.stretch"
            )
        if self.valid is not None and (
            self.valid.dtype != np.bool_ or self.valid.shape != self.image.shape[:2]
        ):
            raise ImageError(
                f"valid of image {self.image_id!r} is {self.valid.dtype} of shape "
                f"{self.valid.shape}, expected bool of shape {self.image.shape[:2]}"
            )
        if self.valid is None:
            return
        if self.valid.all():
            object.__setattr__(self, "valid", None)
        elif self.image[~self.valid].any():
            image = np.where(self.valid[..., None], self.image, np.uint8(0))
            object.__setattr__(self, "image", image)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    def tiles(self, tile_size: int, overlap: int) -> list[Tile]:
        """Return the tiles of `alps.geometry.cut_tiles` that hold data."""
        tiles = cut_tiles(self.size, tile_size, overlap)
        return [tile for tile in tiles if self.valid is None or self.valid_in(tile).any()]

    def valid_in(self, tile: Tile) -> Bool[np.ndarray, "h w"]:
        """Return which pixels of a tile are data."""
        if self.valid is None:
            return np.ones(tile.size, dtype=bool)
        return self.valid[tile.y0 : tile.y1, tile.x0 : tile.x1]


@dataclass(frozen=True, slots=True)
class Category:
    """A class of a label store; ``id`` is the pixel value.

    Raises:
        ValueError: ``id`` is no pixel value, ``name`` no text or ``color`` no RGB.
    """

    id: int
    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.id <= LARGEST_ID:
            raise ValueError(f"Category.id is {self.id}, expected a pixel value, 0 to {LARGEST_ID}")
        if not isinstance(self.name, str):
            raise ValueError(f"Category.name is {self.name!r}, expected text")
        if len(self.color) != 3 or not all(0 <= value <= 255 for value in self.color):
            raise ValueError(f"Category.color is {self.color}, expected red, green, blue, 0 to 255")


def number_classes(classes: Iterable[tuple[str, tuple[int, int, int]]]) -> list[Category]:
    """Names and colours as categories, their ids counted from 0.

    >>> number_classes([("water", (0, 0, 255))])
    [Category(id=0, name='water', color=(0, 0, 255))]
    """
    return [Category(i, name, color) for i, (name, color) in enumerate(classes)]


#: Name, type and shape of a row of each array of `Masks`.
COLUMNS: Sequence[tuple[str, type[np.generic], tuple[int, ...]]] = (
    ("xyxy", np.float32, (4,)),
    ("area", np.int64, ()),
    ("predicted_iou", np.float32, ()),
    ("stability_score", np.float32, ()),
    ("point_coords", np.float32, (2,)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """N masks of one image, run-length encoded, with SA-1B's field names (arXiv 2304.02643).

    Raises:
        ValueError: a column has another type or shape, an area is negative.
    """

    size: tuple[int, int]
    counts: tuple[bytes, ...]  # compressed COCO RLE
    xyxy: Float32[np.ndarray, "N 4"]  # pixels, right and lower edges exclusive
    area: Int64[np.ndarray, " N"]  # pixels
    predicted_iou: Float32[np.ndarray, " N"]
    stability_score: Float32[np.ndarray, " N"]
    point_coords: Float32[np.ndarray, "N 2"]  # the prompt, x y in pixels
    boxes: Boxes | None = None  # what each mask was prompted with, where that was a box

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 1 or width < 1:
            raise ValueError(f"Masks.size is {self.size}, expected (height, width) in pixels")
        n = len(self.counts)
        if not all(isinstance(counts, bytes) for counts in self.counts):
            raise ValueError(
                "Masks.counts are compressed run-length codes as bytes; encode with rle"
            )
        for name, dtype, row in COLUMNS:
            check_array(f"Masks.{name}", getattr(self, name), dtype, (n, *row))
        if n and self.area.min() < 0:
            raise ValueError(f"Masks.area holds {self.area.min()}, expected pixels, 0 or more")
        if self.boxes is not None and len(self.boxes) != n:
            raise ValueError(f"Masks.boxes has {len(self.boxes)} rows, counts has {n}")

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, keep: Bool[np.ndarray, " N"] | Int[np.ndarray, " M"]) -> Masks:
        index = np.arange(len(self))[keep]
        rest = {f.name: getattr(self, f.name)[index] for f in fields(self)[2:-1]}
        boxes = None if self.boxes is None else self.boxes[index]
        return Masks(self.size, tuple(self.counts[i] for i in index), **rest, boxes=boxes)

    def dense(self) -> Bool[np.ndarray, "N H W"]:
        """All masks as one array; for small images and tests."""
        if not len(self):
            return np.zeros((0, *self.size), dtype=bool)
        return np.stack([rle.decode(c, self.size) for c in self.counts])

    @classmethod
    def from_counts(
        cls,
        counts: Sequence[bytes],
        size: tuple[int, int],
        *,
        predicted_iou: Float[np.ndarray, " N"] | None = None,
        stability_score: Float[np.ndarray, " N"] | None = None,
        point_coords: Float[np.ndarray, "N 2"] | None = None,
        boxes: Boxes | None = None,
    ) -> Masks:
        """Extent and area are computed; what is not given is NaN."""
        n = len(counts)

        def column(values: np.ndarray | None, *shape: int) -> np.ndarray:
            return (
                np.full((n, *shape), np.nan, np.float32)
                if values is None
                else (np.asarray(values, dtype=np.float32).reshape(n, *shape))
            )

        return cls(
            size=size,
            counts=tuple(counts),
            xyxy=rle.to_xyxy(counts, size),
            area=rle.area(counts, size),
            predicted_iou=column(predicted_iou),
            stability_score=column(stability_score),
            point_coords=column(point_coords, 2),
            boxes=boxes,
        )

    @classmethod
    def from_dense(cls, masks: Bool[np.ndarray, "N H W"]) -> Masks:
        """Encode an array; scores and prompts are NaN."""
        return cls.from_counts(rle.encode(masks), (masks.shape[1], masks.shape[2]))

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Masks:
        """No mask at all, which is a valid result."""
        return cls.from_counts((), size)

    @classmethod
    def cat(cls, parts: Sequence[Masks]) -> Masks:
        """Join masks of one image; the parts must agree on its size and on having boxes."""
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"cannot join masks of {len(sizes)} image sizes: {sorted(sizes)}")
        rest = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)[2:-1]
        }
        counts = tuple(c for part in parts for c in part.counts)
        boxes = [part.boxes for part in parts if part.boxes is not None]
        return cls(sizes.pop(), counts, **rest, boxes=Boxes.cat(boxes) if boxes else None)


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """What clustering found, the largest cluster first; all that is needed to assign again."""

    centroids: Float32[np.ndarray, "K D"]
    counts: Int64[np.ndarray, " K"]  # rows nearest to each centroid
    # Features are projected onto these before they are compared; None: D is C.
    mean: Float32[np.ndarray, " C"] | None = None
    components: Float32[np.ndarray, "D C"] | None = None
    # The class of each cluster, and the merges that led there, as scipy writes them (a linkage
    # matrix); None: each cluster is a class.
    category_id: Int32[np.ndarray, " K"] | None = None
    tree: Float64[np.ndarray, "_ 4"] | None = None
    # A mask farther than this from its centroid gets no class; None: every mask gets one.
    radius: Float32[np.ndarray, " K"] | None = None


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
