"""Read index maps, which contain the class of every pixel, from files of numbers or colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, PngImagePlugin

from alps.errors import AlpsError, ImageError, LabelError
from alps.images.files.read import decode, open_image
from alps.rasters.gdal import find_driver
from alps.rasters.raster import Raster

#: Suffixes of index maps (lossless formats), compared case-insensitively.
LABEL_SUFFIXES = (".png", ".tif", ".tiff")
#: Pillow modes with one band of unsigned integers, 1 to 16 bits.
_MODES = ("1", "L", "P", "I;16", "I;16B")
#: Highest class number.
MAX_CLASS = 65535

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]


def read_labels(path: str | Path) -> Labels:
    """Read an index map: a PNG or TIFF with one band of class numbers.

    The stored values are returned, as by GDAL: palettes and a TIFF's photometric interpretation
    (white or black is zero) are ignored. A TIFF may have any data type, including signed and
    floating-point types, as long as its values are integers from 0 to 65535.

    Returns:
        The index map, (H, W).

    Raises:
        LabelError: the file cannot be read, or is not an index map.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            driver = find_driver(file.read(16))
        if driver == "GTiff":
            return _read_integers(path)
        with open_image(path) as image:
            kind = f"{image.format} in mode {image.mode}"
            is_index_map = image.mode in _MODES and image.format == "PNG"
            values = _numbers(image) if is_index_map else None
    except AlpsError as error:
        raise LabelError(str(error)) from error
    except Exception as error:  # decoders may raise anything for damaged files
        raise LabelError(f"cannot read {path}: {str(error) or type(error).__name__}") from error
    if values is None:
        raise LabelError(
            f"{path} is a {kind}, expected an index map: a PNG or TIFF with one band of class "
            "numbers of 8 or 16 bits; convert colours to numbers first"
        )
    return values


def _read_integers(path: Path) -> Labels:
    """Return the values of a TIFF as uint8 if they fit, else as uint16."""
    with Raster(path) as raster:
        if raster.count > 1:
            raise LabelError(
                f"{path} is a TIFF with {raster.count} bands, expected an index map: a PNG or TIFF "
                "with one band of class numbers; convert colours to numbers first"
            )
        values = raster.read_first_band()
    if values.dtype in (np.uint8, np.uint16):
        return values
    wrong = ~((values >= 0) & (values <= MAX_CLASS) & (values == np.floor(values)))
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise LabelError(
            f"{path} contains {values[row, column]} in row {row}, column {column} "
            f"({values.dtype}), expected class numbers from 0 to {MAX_CLASS}; write unlabelled "
            "pixels as 255"
        )
    return values.astype(np.uint8 if values.max() <= 255 else np.uint16)


def _numbers(image: Image.Image) -> Labels:
    """Return the stored values of a PNG, undoing Pillow's scaling of 2 and 4 bits to 0 to 255.

    The bit depth is read before the pixels, because loading them clears ``image.tile``.
    """
    tiles = image.tile if isinstance(image, PngImagePlugin.PngImageFile) else []
    bits = {"L;2": 2, "L;4": 4}.get(str(tiles[0].args), 8) if tiles else 8
    values = np.array(image)
    if values.itemsize == 2:
        return values.astype(np.uint16)
    if image.mode == "P":
        return values
    return values.astype(np.uint8) // (1 if image.mode == "1" else 255 // (2**bits - 1))


def read_colors(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read an RGB label image for `colors_to_index`; raise `LabelError` if it cannot be read."""
    try:
        return decode(path).image  # unlike read_pixels, decode keeps the colours of no-data pixels
    except ImageError as error:
        raise LabelError(str(error)) from error


def colors_to_index(
    rgb: UInt8[np.ndarray, "H W 3"], colors: Mapping[tuple[int, int, int], int], path: str | Path
) -> UInt8[np.ndarray, "H W"]:
    """Map RGB colours to class numbers by exact match.

    Args:
        rgb: labels as colours, (H, W, 3).
        colors: class number of each colour; fewer than 256 colours.
        path: source file, for messages.

    Returns:
        The index map, (H, W).

    Raises:
        LabelError: a pixel has an unknown colour.
    """
    unknown = next(value for value in range(256) if value not in colors.values())
    table = np.full(1 << 24, unknown, np.uint8)
    for (red, green, blue), value in colors.items():
        table[red | green << 8 | blue << 16] = value
    index = np.empty(rgb.shape[:2], np.uint8)
    for start in range(0, len(rgb), 512):  # in strips, because orthophotos are large
        rgba = cv2.cvtColor(rgb[start : start + 512], cv2.COLOR_RGB2RGBA)
        codes = rgba.view("<u4")[..., 0] & 0xFFFFFF
        table.take(codes, out=index[start : start + 512])

    wrong = index == unknown
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise LabelError(
            f"{path} has {np.count_nonzero(wrong)} pixels of unknown colours, the first "
            f"{tuple(rgb[row, column].tolist())} in row {row}, column {column}; expected "
            f"{', '.join(map(str, colors))}; use the published file"
        )
    return index


def refuse_unlabelled(images: Sequence[str], n: int, expected: str) -> None:
    """Raise `LabelError` if images have no label.

    Args:
        images: images without a label.
        n: number of all images.
        expected: description of the expected labels, for the message.

    Raises:
        LabelError: ``images`` is not empty.
    """
    if images:
        raise LabelError(
            f"{len(images)} of {n} images have no label (first: {', '.join(images[:3])}); expected "
            f"{expected}; add the labels or remove the images"
        )
