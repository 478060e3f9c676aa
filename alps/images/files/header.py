"""Read the size of an image from its header."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import ExifTags, Image

from alps.images.files.read import FORMATS
from alps.rasters.gdal import find_driver
from alps.rasters.orientation import tiff_orientation
from alps.rasters.raster import Raster

#: EXIF orientations of at least this value swap height and width.
FIRST_ROTATED = 5


def read_size(path: Path) -> tuple[int, int] | None:
    """Return the (H, W) of an image after its orientation is applied, px.

    It takes 0.1 to 1 ms on a local disk.

    Returns:
        The size. None if the header cannot be parsed; the error is reported when the image is read.
    """
    try:
        with path.open("rb") as file:
            is_raster = find_driver(file.read(32)) is not None
        height, width, orientation = _read_raster(path) if is_raster else _read_picture(path)
    except Exception:  # parsers may raise anything for damaged files
        return None
    return (width, height) if orientation >= FIRST_ROTATED else (height, width)


def _read_raster(path: Path) -> tuple[int, int, int]:
    """Return height, width and orientation of a file that GDAL reads."""
    with Raster(path) as raster:
        return (*raster.size, tiff_orientation(path) if raster.is_tiff else 1)


def _read_picture(path: Path) -> tuple[int, int, int]:
    """Return height, width and EXIF orientation of a file that Pillow reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns about many pixels and malformed tags
        with Image.open(path, formats=FORMATS) as image:
            # PngImageFile.getexif decodes all pixels to find EXIF chunks after them.
            exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            return image.height, image.width, orientation if orientation in range(1, 9) else 1


def compare_sizes(image: str, size: tuple[int, int], stated: tuple[int, int] | None) -> str:
    """Return a message if an image differs in size from its annotations, otherwise "".

    Args:
        image: name of the image.
        size: (H, W) of the image, px.
        stated: (H, W) in the annotations, px; None if they do not state it.

    Returns:
        The message, or "".
    """
    if stated is None or stated == size:
        return ""
    note = " (rotated, as by an EXIF orientation)" if stated == size[::-1] else ""
    return (
        f"{image} is {size[1]} x {size[0]} px and its annotations are for an image of "
        f"{stated[1]} x {stated[0]} px{note}, so the boxes do not fit"
    )
