"""Index maps: the class of every pixel, from files of numbers and of colours."""

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

#: Lossless files that hold numbers; names in any case.
LABEL_SUFFIXES = (".png", ".tif", ".tiff")
#: Pillow's modes of one band of whole numbers without sign, 1 to 16 bits.
_MODES = ("1", "L", "P", "I;16", "I;16B")
#: The highest number that a label can be.
HIGHEST = 65535

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]


def read_labels(path: str | Path) -> Labels:
    """Read an index map: a PNG or TIFF with one band of class numbers.

    The numbers count as the file holds them (as GDAL reads them), not the colours of a palette, nor
    which of black and white a TIFF says that 0 is. A TIFF may be of any type, also a signed or
    floating one, as long as it holds whole numbers from 0 to 65535.

    Raises:
        LabelError: the file cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            driver = find_driver(file.read(16))
        if driver == "GTiff":
            return _whole_numbers(path)
        with open_image(path) as image:
            kind = f"{image.format} in mode {image.mode}"
            known = image.mode in _MODES and image.format == "PNG"
            values = _numbers(image) if known else None
    except AlpsError as error:
        raise LabelError(str(error)) from error
    except Exception as error:  # decoders of damaged files raise anything
        raise LabelError(f"cannot read {path}: {str(error) or type(error).__name__}") from error
    if values is None:
        raise LabelError(
            f"{path} is a {kind}, expected an index map: a PNG or TIFF with one band of class "
            "numbers of 8 or 16 bits; turn colours into numbers first"
        )
    return values


def _whole_numbers(path: Path) -> Labels:
    """The values of a TIFF, as few bytes as hold them."""
    with Raster(path) as raster:
        if raster.count > 1:
            raise LabelError(
                f"{path} is a TIFF with {raster.count} bands, expected an index map: a PNG or TIFF "
                "with one band of class numbers; turn colours into numbers first"
            )
        values = raster.numbers()
    if values.dtype in (np.uint8, np.uint16):
        return values
    wrong = ~((values >= 0) & (values <= HIGHEST) & (values == np.floor(values)))
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise LabelError(
            f"{path} holds {values[row, column]} in row {row}, column {column} ({values.dtype}), "
            f"expected class numbers from 0 to {HIGHEST}; write what is not labelled as 255"
        )
    return values.astype(np.uint8 if values.max() <= 255 else np.uint16)


def _numbers(image: Image.Image) -> Labels:
    """What a PNG holds, out of what Pillow shows, which spreads gray of 2 and 4 bits over 0 to 255.

    The bits are named by the tile, which loading empties.
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
    """Read labels that are colours, for `colors_to_index`; raises `LabelError`."""
    try:
        return decode(path).image  # a colour that is declared to be no data is a colour here
    except ImageError as error:
        raise LabelError(str(error)) from error


def colors_to_index(
    rgb: UInt8[np.ndarray, "H W 3"], colors: Mapping[tuple[int, int, int], int], path: str | Path
) -> UInt8[np.ndarray, "H W"]:
    """Replace colours by numbers, exactly.

    Args:
        rgb: labels as colours.
        colors: colour to number, fewer than 256.
        path: where they come from, for the message.

    Raises:
        LabelError: a pixel has another colour.
    """
    unknown = next(value for value in range(256) if value not in colors.values())
    table = np.full(1 << 24, unknown, np.uint8)
    for (red, green, blue), value in colors.items():
        table[red | green << 8 | blue << 16] = value
    index = np.empty(rgb.shape[:2], np.uint8)
    for start in range(0, len(rgb), 512):  # an orthophoto's codes need not lie in memory at once
        rgba = cv2.cvtColor(rgb[start : start + 512], cv2.COLOR_RGB2RGBA)
        codes = rgba.view("<u4")[..., 0] & 0xFFFFFF
        table.take(codes, out=index[start : start + 512])

    wrong = index == unknown
    if wrong.any():
        row, column = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        raise LabelError(
            f"{path} has {np.count_nonzero(wrong)} pixels of colours that are no class, the first "
            f"{tuple(rgb[row, column].tolist())} in row {row}, column {column}; expected "
            f"{', '.join(map(str, colors))}; get the file as it was published"
        )
    return index


def refuse_unlabelled(images: Sequence[str], n: int, expected: str) -> None:
    """Raise `LabelError` if there are ``images`` without a label among ``n``."""
    if images:
        raise LabelError(
            f"{len(images)} of {n} images have no label (first: {', '.join(images[:3])}); expected "
            f"{expected}; add the labels or take the images away"
        )
