"""Read any image file as an RGB array, for labelling and for training."""

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

#: Suffixes of image files, compared case-insensitively.
SUFFIXES = tuple(sorted((".bmp", ".jpeg", ".jpg", ".png", ".webp", *RASTER_SUFFIXES)))
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # names used by Pillow
#: Formats whose alpha marks nodata; the alpha of a BMP is often 0 everywhere.
WITH_ALPHA = ("PNG", "WEBP")
#: Number of rows converted to RGB at once.
STRIP_ROWS = 512
#: Maximum number of characters of a decoder's message.
MAX_REASON = 400
_PNG = b"\x89PNG\r\n\x1a\n"


def read_pixels(path: str | Path) -> Pixels:
    """Read a PNG, JPEG, TIFF, JPEG 2000, BMP or WebP file as 8-bit RGB with its valid mask.

    The format is detected from the content, not from the name. Alpha does not count as a band: one
    or two bands are read as gray, three or four as RGB (and infrared, which is not used). The
    orientation is applied. 8-bit values are kept; other values are mapped to 8 bits by `stretch`.
    Invalid pixels (alpha 0 in a PNG or WebP; for TIFF and JPEG 2000 see
    `alps.rasters.raster.Raster`) become 0.

    Returns:
        The image and its valid mask.

    Raises:
        ImageError: the file is missing, empty, truncated, or not an image; it has an unsupported
            number of bands; or its pixels exceed the limits of `alps.rasters.limits`.
    """
    return blank_invalid(decode(path))


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Return the image of `read_pixels` without its valid mask."""
    return read_pixels(path).image


def read_sample(root: str | Path, record: ImageRecord) -> Sample:
    """Read an image of a dataset without labels; raise `ImageError` if it cannot be read."""
    return to_sample(record, read_pixels(Path(root, record.file_name)))


def to_sample(record: ImageRecord, pixels: Pixels) -> Sample:
    """Return the pixels of an image without labels as a sample."""
    return Sample(
        record.image_id,
        pixels.image,
        valid=pixels.valid,
        bands=pixels.bands,
        window=record.window,
        georeference=pixels.georeference,
    )


def decode(path: str | Path) -> Pixels:
    """Read an image like `read_pixels`, but keep the stored colours of invalid pixels."""
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
    except Exception as error:  # decoders may raise anything for damaged files
        reason = " ".join((str(error) or type(error).__name__).split())[:MAX_REASON]
        raise ImageError(f"cannot read {path}: {reason}") from error


def _decode_raster(path: Path) -> Pixels:
    """Decode a file that GDAL reads."""
    with Raster(path) as raster:
        pixels = raster.read()
        orientation = tiff_orientation(path) if raster.is_tiff else 1
    return _upright(pixels, orientation)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation; the result is contiguous.

    The georeference is dropped unless the orientation is 1, because it refers to the stored rows
    and columns.

    Returns:
        The upright pixels.
    """
    image, valid = pixels.image, pixels.valid
    if valid is not None:
        valid = np.ascontiguousarray(upright(valid, orientation))
    return Pixels(
        np.ascontiguousarray(upright(image, orientation)),
        valid,
        georeference=pixels.georeference if orientation == 1 else None,
    )


def _decode_pillow(path: Path) -> Pixels:
    """Decode a file that Pillow reads."""
    with open_image(path) as image:
        with suppress(Exception):  # a damaged EXIF block does not affect the pixels
            ImageOps.exif_transpose(image, in_place=True)
        size = image.height, image.width
        transparent = image.format in WITH_ALPHA and image.has_transparency_data
        rgb = np.empty((*size, 3), np.uint8)
        valid = np.empty(size, bool) if transparent else None
        # In strips to save memory: Pillow needs 4 bytes per RGB pixel, and crop and convert copy.
        for top in range(0, image.height, STRIP_ROWS):
            rows, box = np.s_[top : top + STRIP_ROWS], (0, top, image.width, top + STRIP_ROWS)
            strip = image if image.height <= STRIP_ROWS else image.crop(box)
            if valid is not None:
                rgba = np.asarray(strip.convert("RGBA"))[: size[0] - top]
                rgb[rows], valid[rows] = rgba[..., :3], rgba[..., 3] > 0
            else:
                rgb_strip = strip if strip.mode == "RGB" else strip.convert("RGB")
                rgb[rows] = np.asarray(rgb_strip)[: size[0] - top]
        return Pixels(rgb, none_if_all(valid))


def _decode_deep_png(path: Path) -> Pixels:
    """Decode a 16-bit PNG; Pillow would keep only the upper 8 bits of colours."""
    with open_image(path) as image:
        check_size(path, image.height, image.width, 2 * max(len(image.getbands()), 3))
        orientation = 1
        with suppress(Exception):  # damaged EXIF; if there is none, getexif would decode the image
            if "exif" in image.info:
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        transparent_value = image.info.get("transparency")  # the transparent gray value or colour
        image.verify()  # because cv2 may ignore damage
    cv2.utils.logging.setLogLevel(
        cv2.utils.logging.LOG_LEVEL_SILENT
    )  # otherwise it logs each bad file
    values = cv2.imdecode(_critical_chunks(path.read_bytes()), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ValueError("damaged; download it again")
    valid = None
    if values.ndim == 2:
        values = values[..., None]
        if isinstance(transparent_value, int):
            valid = values[..., 0] != transparent_value
    elif values.shape[2] == 4:
        valid = values[..., 3] > 0
        values = values[..., :3]
    rgb = stretch(values, valid)[..., ::-1]
    return _upright(
        Pixels(np.broadcast_to(rgb, (*rgb.shape[:2], 3)), none_if_all(valid)), orientation
    )


def _critical_chunks(data: bytes) -> UInt8[np.ndarray, " N"]:
    """Return a PNG without colour profiles and texts, because libpng prints warnings about them."""
    chunks, offset = [_PNG], len(_PNG)
    while offset + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        kind = data[offset + 4 : offset + 8]
        if kind[:1].isupper() or kind == b"tRNS":
            chunks.append(data[offset : offset + 12 + length])
        offset += 12 + length
    return np.frombuffer(b"".join(chunks), np.uint8)


_pillow_limit = threading.Lock()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image with Pillow, with the pixel limit of ALPS; Pillow's limit is too low."""
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
    """Return the bytes per pixel in Pillow's memory, at least 3 to allow for copies."""
    return 4 if image.mode in ("I", "F") else max(len(image.getbands()), 3)
