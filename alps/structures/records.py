"""Image records, samples, categories and clusters: immutable, and validated on creation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Shaped, UInt8

from alps.errors import ImageError
from alps.structures.boxes import Boxes
from alps.structures.georeference import Georeference
from alps.structures.tiles import Tile, cut_tiles

#: Maximum bytes of a file name and of a path inside a store, for all common file systems.
LONGEST_NAME, LONGEST_PATH = 255, 3072
#: Largest class id of a 16-bit index map; 65535 is ignore_index.
LARGEST_ID = 65534


#: Matches paths that are empty or absolute or contain "..", control characters or "\".
INVALID_PATH = re.compile(r"^$|^/|(?:^|/)\.\.(?:/|$)|[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of an image set, before it is read.

    ``image_id`` is part of the name of every file written for the image, so it must be a plain
    relative POSIX path that is short enough for ".png" to be appended.

    Raises:
        ImageError: ``image_id`` or ``split`` is not such a path, or ``bytes`` or ``frame_index`` is
            negative.
    """

    image_id: str
    file_name: str
    split: str = "train"
    bytes: int = 0
    video_id: str | None = None
    frame_index: int | None = None
    annotations: str | None = None  # a digest: changed boxes change the labels
    # JSON with the ids of the image and of its annotations, in order, in the source dataset.
    source_ids: str | None = None
    window: Tile | None = None  # the part of the file, px; None: the whole file

    def __post_init__(self) -> None:
        for name, part in (("image_id", self.image_id), ("split", self.split)):
            if not isinstance(part, str) or INVALID_PATH.search(part):
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
                f"image_id {self.image_id[:60]!r}… is too long: with '.png' its path has "
                f"{len(path)} bytes and its longest name {longest}, the limits are "
                f"{LONGEST_PATH} and {LONGEST_NAME}; rename the file"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One decoded image.

    Pixels where ``valid`` is False have no data: they are excluded from masks, features, classes
    and losses, and set to 0. If ``valid`` is True everywhere, it is replaced by None.

    >>> image = np.zeros((4, 6, 3), dtype=np.uint8)
    >>> Sample("park/tile_3", image)
    Sample('park/tile_3', size=(4, 6))
    >>> left = np.arange(6) < 3
    >>> Sample("park/tile_4", image, valid=np.tile(left, (4, 1)))
    Sample('park/tile_4', size=(4, 6), valid=0.500)

    Raises:
        ImageError: ``image`` or ``valid`` has the wrong dtype or shape.
    """

    image_id: str
    image: UInt8[np.ndarray, "H W 3"]  # RGB; 0 where not valid
    boxes: Boxes | None = None  # None: the image set has no boxes
    dropped: tuple[str, ...] = ()  # one message for each annotation that cannot be used
    valid: Bool[np.ndarray, "H W"] | None = None  # None: all pixels have data
    bands: Shaped[np.ndarray, "C H W"] | None = None  # what networks see; None: ``image``
    window: Tile | None = None  # the part of the raster, px; None: the whole image
    georeference: Georeference | None = None  # of the whole raster; None: unknown

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.shape[2:] != (3,):
            raise ImageError(
                f"image {self.image_id!r} is {self.image.dtype} of shape {self.image.shape}, "
                "expected RGB as uint8 of shape (H, W, 3); convert it (alps.rasters.stretch)"
            )
        if self.valid is not None and (
            self.valid.dtype != np.bool_ or self.valid.shape != self.image.shape[:2]
        ):
            raise ImageError(
                f"valid of image {self.image_id!r} is {self.valid.dtype} of shape "
                f"{self.valid.shape}, expected bool of shape {self.image.shape[:2]}"
            )
        if self.bands is not None and self.bands.shape[1:] != self.image.shape[:2]:
            raise ImageError(
                f"bands of image {self.image_id!r} have shape {self.bands.shape}, expected "
                f"(C, H, W) with (H, W) = {self.image.shape[:2]}"
            )
        if self.valid is None:
            return
        if self.valid.all():
            object.__setattr__(self, "valid", None)
        elif cv2.norm(self.image, cv2.NORM_INF, mask=(~self.valid).view(np.uint8)):
            image = np.where(self.valid[..., None], self.image, np.uint8(0))
            object.__setattr__(self, "image", image)

    def __repr__(self) -> str:
        boxes = "" if self.boxes is None else f", boxes={self.boxes!r}"
        dropped = f", dropped={len(self.dropped)}" if self.dropped else ""
        valid = "" if self.valid is None else f", valid={self.valid.mean():.3f}"
        return f"Sample({self.image_id!r}, size={self.size}{boxes}{dropped}{valid})"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.image.shape[0], self.image.shape[1]

    def tiles(self, tile_size: int, overlap: int) -> list[Tile]:
        """Return the tiles of `alps.structures.tiles.cut_tiles` that contain valid pixels."""
        tiles = cut_tiles(self.size, tile_size, overlap)
        return [tile for tile in tiles if self.valid is None or self.valid_in(tile).any()]

    def valid_in(self, tile: Tile) -> Bool[np.ndarray, "h w"]:
        """Return the valid mask of a tile."""
        if self.valid is None:
            return np.ones(tile.size, dtype=bool)
        return self.valid[tile.y0 : tile.y1, tile.x0 : tile.x1]


@dataclass(frozen=True, slots=True)
class Category:
    """A class of a label store; ``id`` is the pixel value.

    >>> Category(id=0, name="water", color=(0, 0, 255))
    Category(id=0, name='water', color=(0, 0, 255))

    Raises:
        ValueError: ``id`` is not a pixel value, ``name`` not text or ``color`` not RGB.
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
    """Return a category per (name, RGB colour), with ids counted from 0.

    >>> number_classes([("water", (0, 0, 255))])
    [Category(id=0, name='water', color=(0, 0, 255))]
    """
    return [Category(i, name, color) for i, (name, color) in enumerate(classes)]


#: Name, type and row shape of each array of `Masks`.
COLUMNS: Sequence[tuple[str, type[np.generic], tuple[int, ...]]] = (
    ("xyxy", np.float32, (4,)),
    ("area", np.int64, ()),
    ("predicted_iou", np.float32, ()),
    ("stability_score", np.float32, ()),
    ("point_coords", np.float32, (2,)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """A fitted clustering, the largest cluster first."""

    centroids: Float32[np.ndarray, "K D"]
    counts: Int64[np.ndarray, " K"]  # number of features nearest to each centroid
    # The PCA by which features are projected first; None: no PCA, D equals C.
    mean: Float32[np.ndarray, " C"] | None = None
    components: Float32[np.ndarray, "D C"] | None = None
    # Class of each cluster, and the merges of clusters as scipy's linkage matrix; None: one class
    # per cluster.
    category_id: Int32[np.ndarray, " K"] | None = None
    tree: Float64[np.ndarray, "_ 4"] | None = None
    # Maximum distance of a mask from its centroid; farther masks get no class. None: no limit.
    radius: Float32[np.ndarray, " K"] | None = None
