"""Any image file becomes an RGB array: the one reader, for labelling and for training."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import ExifTags, Image, ImageOps

from alps.errors import ImageError
from alps.types import ImageRecord, Sample

#: File names with these endings, in any case, are images.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow's names
#: An image with more pixels is refused before it is decoded: 32,768 × 32,768.
MAX_PIXELS = 2**30
#: And one that takes more bytes when it is decoded: as many pixels of four bands of 8 bits.
MAX_BYTES = 2**32
#: Of more bytes than this a file must have a byte for so many. Deflate packs 1,032 bytes into one
#: and LZW 2,560, and a gray one becomes three: a file with fewer is damaged, or made to fill the
#: memory. Up to there (8192 × 8192 with 8 bits) an image of one colour may come out of any few
#: bytes: zstd, fax and lossless WebP pack without bounds, and a TIFF may leave out its strips.
LARGE, PER_BYTE = 3 * 2**26, 4096
#: Rows that are turned to RGB at once.
STRIP = 512
#: Percentiles that become 0 and 255 where an image has more than 8 bits.
STRETCH = (0.5, 99.5)

#: Letters of what a decoder says.
REASON = 400

Pixels = Shaped[np.ndarray, "H W C"]


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a PNG, JPEG, TIFF, BMP or WebP file as 8-bit RGB.

    The content decides on the format, not the name. One or two bands are gray (and alpha), three or
    four RGB (and alpha or infrared); alpha and the fourth band are dropped. The EXIF orientation is
    applied. 8-bit values stay as they are; everything else goes through `stretch`.

    Raises:
        ImageError: missing, empty, truncated, no image, another number of bands, more than
            `MAX_PIXELS` or `MAX_BYTES`, or many pixels in a few bytes.
    """
    try:
        image, nodata = _decode(Path(path))
        image = image[..., : 3 if image.shape[2] >= 3 else 1]
        if image.dtype != np.uint8:
            image = stretch(image, nodata)
    except Exception as error:  # decoders of damaged files raise anything
        reason = " ".join((str(error) or type(error).__name__).split())[:REASON]
        raise ImageError(f"cannot read {path}: {reason}") from error
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def read_sample(root: str | Path, record: ImageRecord) -> Sample:
    """An image of a set as it is, without labels; raises `ImageError` as `read_image` does."""
    return Sample(record.image_id, read_image(Path(root, record.file_name)))


def stretch(image: Pixels, nodata: float = 0.0) -> UInt8[np.ndarray, "H W C"]:
    """Map an image of any depth to 8 bits, linearly between two percentiles of its own values.

    Sixteen bits seldom hold sixteen: sensors deliver 11 or 12 bits, reflectances end near 10,000,
    and floats have any unit, so the type's range says nothing, and neither does the maximum where a
    few pixels glint. The percentiles `STRETCH` are taken over all bands together, which keeps the
    ratios between bands and so the colours. Nothing but the image itself enters: the result is the
    same in every run.

    Pixels that are NaN or infinite in any band, or ``nodata`` in all, are no data: they become 0
    and do not count.
    """
    dtype = np.promote_types(image.dtype, np.float32)
    bands = np.array(image.transpose(2, 0, 1), dtype, order="C")  # ten times faster than H W C
    with np.errstate(over="ignore"):  # nodata may lie beyond float32
        valid = np.isfinite(bands).all(axis=0) & (bands != nodata).any(axis=0)
    values = bands if valid.all() else bands[:, valid]
    if not values.size:
        return np.zeros(image.shape, np.uint8)
    low, high = stretch_limits(values)
    return stretch_between(bands, valid, low, high).transpose(1, 2, 0)


def stretch_limits(values: Shaped[np.ndarray, ...]) -> tuple[float, float]:
    """The percentiles `STRETCH` of some valid values, or their extremes where these are one."""
    low, high = np.percentile(values, STRETCH)
    if low == high:  # little but one value: a few ships on dark water
        low, high = values.min(), values.max()
    return float(low), float(high)


def stretch_between(
    bands: Float[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"], low: float, high: float
) -> UInt8[np.ndarray, "C H W"]:
    """Map ``low`` to 0 and ``high`` to 255, in place of ``bands``; what is not valid becomes 0."""
    if low == high:
        return np.zeros(bands.shape, np.uint8)
    number = bands.dtype.type
    bands[:, ~valid] = low
    bands -= number(low)
    bands /= number(high - low)
    bands *= 255
    result: np.ndarray = np.rint(bands.clip(0, 255, out=bands), out=bands).astype(np.uint8)
    return result


def _decode(path: Path) -> tuple[Pixels, float]:
    """Pixels as stored but upright, and the value that means no data."""
    with path.open("rb") as file:
        head = file.read(32)
    if not head:
        raise ValueError("the file is empty")
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _decode_tiff(path)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[24] == 16:
        with open_image(path) as image:
            _check_size(path, image.height, image.width, 3 * 2)
            image.verify()  # cv2 may pass over damage
        return _decode_cv2(path), 0.0  # Pillow would keep only the upper 8 bits of 16-bit colour
    return _decode_pillow(path), 0.0


def _decode_tiff(path: Path) -> tuple[Pixels, float]:
    with tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        axes, shape = series.axes, series.shape
        if len(shape) == 2:
            axes, shape = f"{axes}S", (*shape, 1)
        # Without a sample axis several pages are several bands, and mostly lie in front.
        axis = axes.find("S") if "S" in axes else 0 if shape[0] <= 4 else 2
        if len(shape) != 3 or not 1 <= shape[axis] <= 4:
            raise ValueError(
                f"it has bands or pages of shape {series.shape} ({series.axes}), expected 1 to 4 "
                "bands; write red, green and blue into a file of their own"
            )
        height, width = (n for i, n in enumerate(shape) if i != axis)
        _check_size(path, height, width, max(shape[axis] * np.dtype(series.dtype).itemsize, 3))
        plain = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK)
        codec = page.compression in tifffile.TIFF.DECOMPRESSORS
        if plain and codec and page.predictor in tifffile.TIFF.UNPREDICTORS:
            image = np.moveaxis(series.asarray().reshape(shape), axis, 2)
            if image.dtype == bool:
                image = image.view(np.uint8) * 255
            orientation = page.tags.valueof(ExifTags.Base.Orientation, 1)
            return _upright(image, orientation), _nodata(page)
        # Palettes, and what tifffile decodes only with imagecodecs: LZW, JPEG, fax.
        if page.bitspersample <= 8:
            return _decode_pillow(path), 0.0
        return _decode_cv2(path), _nodata(page)


def _nodata(page: tifffile.TiffPage) -> float:
    """GDAL's tag, or 0. `TiffPage.nodata` refuses the lowest float32, which is the usual value."""
    try:
        return float(page.tags.valueof(42113, "0"))
    except ValueError:
        return 0.0


def _decode_pillow(path: Path) -> Pixels:
    with open_image(path) as image:
        with suppress(Exception):  # a damaged EXIF block does not spoil the pixels
            ImageOps.exif_transpose(image, in_place=True)
        rgb = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, STRIP):  # Pillow's RGB has 4 bytes, and is copied twice
            strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
            # A palette with transparency goes to RGB through RGBA, else Pillow warns.
            plain = strip.convert("RGBA") if strip.mode in ("P", "PA") else strip
            rgb[top : top + STRIP] = np.asarray(plain.convert("RGB"))
        return rgb


def _decode_cv2(path: Path) -> Pixels:
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # BGR, upright
    if image is None:
        raise ValueError("damaged, or compressed in a way that needs `pip install imagecodecs`")
    return image[..., ::-1]


_pillow_limit = threading.Lock()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open with Pillow under our limit of pixels; its own is smaller than an orthophoto."""
    with ExitStack() as stack:
        with _pillow_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = stack.enter_context(Image.open(path, formats=FORMATS))
                _check_size(path, image.height, image.width, _pixel_bytes(image))
                if image.format == "TIFF":
                    image.load()  # for TIFF Pillow looks at its limit here once more
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        yield image


def _pixel_bytes(image: Image.Image) -> int:
    """Of a pixel in Pillow's memory; 3 at least, for whatever has fewer is copied some times."""
    return 4 if image.mode in ("I", "F") else max(len(image.getbands()), 3)


def _check_size(path: Path, height: int, width: int, pixel: int) -> None:
    """Raise `ValueError` unless the memory for an image is in proportion to its file.

    Args:
        path: the file.
        height: of the image, px.
        width: of the image, px.
        pixel: bytes of one pixel, all bands, when it is decoded.
    """
    if height * width > MAX_PIXELS:
        raise ValueError(f"{height} x {width} pixels, the limit is {MAX_PIXELS}; cut it into tiles")
    if height * width * pixel > MAX_BYTES:
        raise ValueError(
            f"{height} x {width} pixels of {pixel} bytes, the limit is {MAX_BYTES} bytes; cut it "
            "into tiles"
        )
    size = path.stat().st_size
    if height * width * pixel > max(LARGE, size * PER_BYTE):
        raise ValueError(
            f"{height} x {width} pixels of {pixel} bytes in {size} bytes: damaged, or made to fill "
            "the memory; get it again, or write it without compression"
        )


def _upright(image: Pixels, orientation: int) -> Shaped[np.ndarray, "_ _ C"]:
    """Undo an EXIF orientation (1 to 8): 5 to 8 are transposed, then the axes may be flipped."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
