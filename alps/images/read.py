"""Any image file becomes an RGB array: the one reader, for labelling and for training."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image, ImageOps

from alps.errors import ImageError

#: File names with these endings, in any case, are images.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
#: An image with more pixels is refused before it is decoded: 32,768 × 32,768.
MAX_PIXELS = 2**30
#: Percentiles that become 0 and 255 where an image has more than 8 bits.
STRETCH = (0.5, 99.5)

Pixels = Shaped[np.ndarray, "H W C"]


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a PNG, JPEG, TIFF, BMP or WebP file as 8-bit RGB.

    The content decides on the format, not the name. One or two bands are gray (and alpha), three or
    four RGB (and alpha or infrared); alpha and the fourth band are dropped. The EXIF orientation is
    applied. 8-bit values stay as they are; everything else goes through `stretch`.

    Raises:
        ImageError: missing, empty, truncated, no image, another number of bands, or more than
            `MAX_PIXELS`.
    """
    try:
        image, nodata = _decode(Path(path))
    except Exception as error:  # decoders of damaged files raise anything
        raise ImageError(f"cannot read {path}: {error or type(error).__name__}") from error
    image = image[..., : 3 if image.shape[2] >= 3 else 1]
    if image.dtype != np.uint8:
        image = stretch(image, nodata)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def stretch(image: Pixels, nodata: float = 0) -> UInt8[np.ndarray, "H W C"]:
    """Map an image of any depth to 8 bits, linearly between two percentiles of its own values.

    Sixteen bits seldom hold sixteen: sensors deliver 11 or 12 bits, reflectances end near 10,000,
    and floats have any unit, so the type's range says nothing, and neither does the maximum where a
    few pixels glint. The percentiles `STRETCH` are taken over all bands together, which keeps the
    ratios between bands and so the colours. Nothing but the image itself enters: the result is the
    same in every run.

    Pixels that are NaN or infinite in any band, or ``nodata`` in all, are no data: they become 0
    and do not count.
    """
    image = image.astype(np.promote_types(image.dtype, np.float32))
    with np.errstate(over="ignore"):  # nodata may lie beyond float32
        valid = np.isfinite(image).all(axis=2) & (image != nodata).any(axis=2)
    values = image[valid]
    if not len(values):
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(values, STRETCH)
    if low == high:  # little but one value: a few ships on dark water
        low, high = values.min(), values.max()
    image[~valid] = low
    scale = 255 / (high - low) if high > low else 0
    image = np.clip((image - image.dtype.type(low)) * image.dtype.type(scale), 0, 255)
    image[~valid] = 0
    return np.rint(image).astype(np.uint8)


def _decode(path: Path) -> tuple[Pixels, float]:
    """Pixels as stored, upright, and the value that means no data."""
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise ValueError("the file is empty")
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _decode_tiff(path)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:25] == b"\x10":
        with _open(path) as image:
            image.verify()  # finds damage that cv2 passes over
        return _decode_cv2(path), 0  # Pillow would cut 16-bit colour down to its upper 8 bits
    with _open(path) as image:
        return _to_rgb(image), 0
