"""The size of an image, from its header alone."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import ExifTags, Image

from alps.images.read import FORMATS

#: EXIF orientations that turn an image by 90 degrees.
TURNED = (5, 6, 7, 8)


def read_size(path: Path) -> tuple[int, int] | None:
    """Return the (H, W) that an image has once its EXIF orientation is applied, px.

    None where the header says nothing that Pillow understands, or too much: reading the image
    decides. Takes 0.1 to 0.8 ms on a local disk.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of many pixels, and of odd tags
            with Image.open(path, formats=FORMATS) as image:
                # PNG's own method decodes all pixels to look behind them.
                png = image.format == "PNG"
                exif = Image.Image.getexif(image) if png else image.getexif()
                turned = exif.get(ExifTags.Base.Orientation) in TURNED
                return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # parsers of damaged files raise anything
        return None


def compare_sizes(image: str, size: tuple[int, int], stated: tuple[int, int] | None) -> str:
    """Say in what the size of an image is another than its annotations state; "" if in nothing.

    Args:
        image: its name.
        size: (H, W) of the image.
        stated: (H, W) in the annotations; None: they state none.
    """
    if stated is None or stated == size:
        return ""
    turned = " (turned, as by an EXIF orientation)" if stated == size[::-1] else ""
    return (
        f"{image} is {size[1]} x {size[0]} px and its annotations are of an image of "
        f"{stated[1]} x {stated[0]} px{turned}, so its boxes are in other pixels"
    )
