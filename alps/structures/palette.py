"""Colours for any number of classes, and PNG index maps with a palette."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer
from PIL import Image

from alps.structures.records import Category, number_classes

#: Colour of unlabelled pixels in palettes and pictures.
IGNORE_COLOR = (0, 0, 0)


def color_classes(names: Sequence[str]) -> list[Category]:
    """Return a category per name, with distinct colours and ids counted from 0."""
    return number_classes(zip(names, distinct_colors(len(names)), strict=True))


def distinct_colors(k: int) -> list[tuple[int, int, int]]:
    """Return ``k`` RGB colours that differ in hue first, then in lightness and saturation.

    The colours do not differ between runs.

    >>> distinct_colors(2)
    [(230, 69, 69), (48, 217, 97)]
    """
    shades = ((0.70, 0.90), (0.78, 0.85), (0.45, 0.95), (0.85, 0.60), (0.30, 0.75))
    colors = []
    for i in range(k):
        saturation, value = shades[i % len(shades)]
        # Steps of the golden angle never repeat a hue, and consecutive hues are far apart.
        red, green, blue = colorsys.hsv_to_rgb((i * 0.381966) % 1.0, saturation, value)
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colors


def index_png(
    labels: Integer[np.ndarray, "H W"], colors: list[tuple[int, int, int]], ignore_index: int
) -> bytes:
    """Return an index map encoded as PNG.

    uint8 maps get a palette. uint16 maps become 16-bit gray, because a PNG palette has at most 256
    colours.

    Args:
        labels: pixel values (H, W), uint8 or uint16.
        colors: RGB of each class.
        ignore_index: value of unlabelled pixels, drawn in `IGNORE_COLOR`.
    """
    if labels.dtype == np.uint8:
        image = Image.fromarray(labels)
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: len(colors)] = colors
        table[ignore_index] = IGNORE_COLOR
        image.putpalette(table.tobytes(), rawmode="RGB")
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=False, compress_level=6)
    return buffer.getvalue()
