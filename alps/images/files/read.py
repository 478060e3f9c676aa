"""Any image file becomes an RGB array: the one reader, for labelling and for training."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from alps.errors import ImageError
from alps.rasters.gdal import RASTER_SUFFIXES, find_driver
from alps.rasters.limits import check_size
from alps.rasters.orientation import tiff_orientation, upright
from alps.rasters.pixels import Pixels, blank_invalid, none_if_all
from alps.rasters.raster import Raster
from alps.rasters.stretch import stretch
from alps.structures.records import ImageRecord, Sample

__all__ = ["SUFFIXES", "open_image", "read_image", "read_pixels", "read_sample", "stretch"]

#: File names with these endings, in any case, are images.
SUFFIXES = tuple(sorted((".bmp", ".jpeg", ".jpg", ".png", ".webp", *RASTER_SUFFIXES)))
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # Pillow's names
#: Formats whose alpha says where there is no data; that of a BMP is mostly 0 everywhere.
WITH_ALPHA = ("PNG", "WEBP")
#: Rows that are turned to RGB at once.
STRIP = 512
#: Letters of what a decoder says.
REASON = 400
_PNG = b"\x89PNG\r\n\x1a\n"


def read_pixels(path: str | Path) -> Pixels:
    """Read a PNG, JPEG, TIFF, JPEG 2000, BMP or WebP file as 8-bit RGB with its valid mask.

    The content decides on the format, not the name. One or two bands are gray, three or four RGB
    (and infrared, which is not used); alpha is no band. Orientation is applied. 8-bit values stay
    as they are; everything else goes through `stretch`. Pixels that are not valid (alpha of 0 in a
    PNG or WebP; of a TIFF or JPEG 2000 see `alps.rasters.raster.Raster`) become 0.

    Raises:
        ImageError: missing, empty, truncated, no image, another number of bands, or too large for
            the memory or for its file (`alps.rasters.limits`).
    """
    return blank_invalid(decode(path))


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Return the image of `read_pixels`; whoever labels or learns needs its valid mask, too."""
    return read_pixels(path).image


def read_sample(root: str | Path, record: ImageRecord) -> Sample:
    """An image of a set as it is, without labels; raises `ImageError` as `read_pixels` does."""
    pixels = read_pixels(Path(root, record.file_name))
    return Sample(record.image_id, pixels.image, valid=pixels.valid)


def decode(path: str | Path) -> Pixels:
    """As `read_pixels`, but with the colours that lie where the file has no data."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if not head:
            raise ValueError("the file is empty")
        if find_driver(head):
            return _decode_raster(path)
        if head[:8] == _PNG and head[24:25] == b"\x10":
            return _decode_deep_png(path)
        return _decode_pillow(path)
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise anything
        reason = " ".join((str(error) or type(error).__name__).split())[:REASON]
        raise ImageError(f"cannot read {path}: {reason}") from error


def _decode_raster(path: Path) -> Pixels:
    with Raster(path) as raster:
        pixels = raster.read()
        orientation = tiff_orientation(path) if raster.is_tiff else 1
    return _turn(pixels, orientation)


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """The same upright, in memory of its own."""
    image, valid = pixels.image, pixels.valid
    if valid is not None:
        valid = np.ascontiguousarray(upright(valid, orientation))
    return Pixels(np.ascontiguousarray(upright(image, orientation)), valid)


def _decode_pillow(path: Path) -> Pixels:
    with open_image(path) as image:
        with suppress(Exception):  # a damaged EXIF block does not spoil the pixels
            ImageOps.exif_transpose(image, in_place=True)
        size = image.height, image.width
        transparent = image.format in WITH_ALPHA and image.has_transparency_data
        rgb = np.empty((*size, 3), np.uint8)
        valid = np.empty(size, bool) if transparent else None
        for top in range(0, image.height, STRIP):  # Pillow's RGB has 4 bytes, and is copied twice
            rows = np.s_[top : top + STRIP]
            strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
            if valid is not None:
                rgba = np.asarray(strip.convert("RGBA"))
                rgb[rows], valid[rows] = rgba[..., :3], rgba[..., 3] > 0
            else:
                rgb[rows] = np.asarray(strip.convert("RGB"))
        return Pixels(rgb, none_if_all(valid))


def _decode_deep_png(path: Path) -> Pixels:
    """Of 16 bits, of which Pillow would keep only the upper 8 where there are colours."""
    with open_image(path) as image:
        check_size(path, image.height, image.width, 2 * max(len(image.getbands()), 3))
        orientation = 1
        with suppress(Exception):  # as above; without a block getexif would decode the image
            if "exif" in image.info:
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        nothing = image.info.get("transparency")  # the one gray, or colour, that is transparent
        image.verify()  # cv2 may pass over damage
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else a line per bad file
    values = cv2.imdecode(_critical_chunks(path.read_bytes()), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ValueError("damaged; get it again")
    valid = None
    if values.ndim == 2:
        values = values[..., None]
        if isinstance(nothing, int):
            valid = values[..., 0] != nothing
    elif values.shape[2] == 4:
        valid = values[..., 3] > 0
        values = values[..., :3]
    rgb = stretch(values, valid)[..., ::-1]
    return _turn(Pixels(np.broadcast_to(rgb, (*rgb.shape[:2], 3)), none_if_all(valid)), orientation)


def _critical_chunks(data: bytes) -> UInt8[np.ndarray, " N"]:
    """A PNG without profiles and texts, of which libpng would print what it thinks."""
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind[:1].isupper() or kind == b"tRNS":
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return np.frombuffer(b"".join(kept), np.uint8)


_pillow_limit = threading.Lock()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open with Pillow under our limit of pixels; its own is smaller than an orthophoto."""
    with ExitStack() as stack:
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = stack.enter_context(Image.open(path, formats=FORMATS))
                check_size(path, image.height, image.width, _pixel_bytes(image))
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        yield image


def _pixel_bytes(image: Image.Image) -> int:
    """Of a pixel in Pillow's memory; 3 at least, for whatever has fewer is copied some times."""
    return 4 if image.mode in ("I", "F") else max(len(image.getbands()), 3)
