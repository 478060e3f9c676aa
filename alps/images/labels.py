"""Index maps: the class of every pixel, from files of numbers and of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, PngImagePlugin, TiffImagePlugin

from alps.errors import ImageError, LabelError
from alps.images.read import open_image, read_image

#: Lossless files that hold numbers; names in any case.
LABEL_SUFFIXES = (".png", ".tif", ".tiff")
#: Pillow's modes of one band of whole numbers without sign, 1 to 16 bits.
_MODES = ("1", "L", "P", "I;16", "I;16B")
#: Tags of a TIFF, and the photometric interpretation that is upside down.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]


def read_labels(path: str | Path) -> Labels:
    """Read an index map: a PNG or TIFF with one band of class numbers, 1 to 16 bits.

    The numbers count as the file holds them (as GDAL reads them), not the colours of a palette, nor
    which of black and white a TIFF says that 0 is.

    Raises:
        LabelError: the file cannot be read, or holds something else.
    """
    try:
        with open_image(Path(path)) as image:
            kind = f"{image.format} in mode {image.mode}"
            known = image.mode in _MODES and image.format in ("PNG", "TIFF")
            values = _numbers(image) if known else None
    except Exception as error:  # decoders of damaged files raise anything
        raise LabelError(f"cannot read {path}: {str(error) or type(error).__name__}") from error
    if values is None:
        raise LabelError(
            f"{path} is a {kind}, expected an index map: a PNG or TIFF with one band of class "
            "numbers of 8 or 16 bits; turn colours into numbers first"
        )
    return values


def _numbers(image: Image.Image) -> Labels:
    """What the file holds, out of what Pillow shows.

    Pillow spreads gray of 2 and 4 bits over 0 to 255, and inverts a TIFF whose 0 is white.
    """
    bits, inverted = 8, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
        inverted = image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO) == _WHITE_IS_ZERO
    elif isinstance(image, PngImagePlugin.PngImageFile) and image.tile:
        bits = {"L;2": 2, "L;4": 4}.get(str(image.tile[0].args), 8)  # emptied by loading
    values = np.array(image)
    if values.itemsize == 2:  # neither is done to 16 bits
        return values.astype(np.uint16)
    if image.mode == "P":
        return values
    if inverted:
        values = ~values
    return values.astype(np.uint8) // (1 if image.mode == "1" else 255 // (2**bits - 1))


def read_colors(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read labels that are colours, for `colors_to_index`; raises `LabelError`."""
    try:
        return read_image(path)
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
