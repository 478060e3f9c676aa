"""Convert COCO's "segmentation", in any of its formats, to run-length encoding.

pycocotools does not validate its input: a corner at 1e9 allocates gigabytes, and invalid counts are
read past their end. Everything is therefore validated first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from alps.structures import rle
from alps.structures.boxes import Boxes
from alps.structures.masks import Masks

logger = logging.getLogger(__name__)

#: Corner coordinates may be up to this many times the longer side of the image.
BEYOND = 4
#: Maximum number of invalid masks of an image that are logged one by one; the rest are counted.
NAMED = 5


def read_masks(shapes: Sequence[tuple[str, Any]], boxes: Boxes, size: tuple[int, int]) -> Masks:
    """Read the ground-truth masks of the boxes that have one; invalid masks are logged and skipped.

    Args:
        shapes: for each box its location, for messages, and an argument of `encode_segmentation`
            or None.
        boxes: boxes of one image.
        size: (H, W) of the image, px.

    Returns:
        Masks with their boxes.
    """
    kept, counts, problems = [], [], []
    for i, (where, shape) in enumerate(shapes):
        if shape is None:
            continue
        try:
            counts.append(encode_segmentation(shape, size))
            kept.append(i)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    for line in problems[:NAMED]:
        logger.warning("left out a true mask: %s", line)
    if len(problems) > NAMED:
        logger.warning("left out %d more true masks of this image", len(problems) - NAMED)
    return Masks.from_counts(counts, size, boxes=boxes[np.array(kept, np.int64)])


def encode_segmentation(shape: Any, size: tuple[int, int]) -> bytes:
    """Return the compressed run-length counts of a segmentation.

    Args:
        shape: a list of polygons x1 y1 x2 y2 … (px), or a dict with ``size`` and ``counts``,
            compressed or not. If ``size`` is missing, it is taken to be that of the image.
        size: (H, W) of the image, px.

    Raises:
        ValueError: the segmentation is malformed, or its size differs from that of the image.
    """
    height, width = size
    if isinstance(shape, list):
        polygons = [_check_polygon(polygon, size) for polygon in shape]
        return bytes(coco.merge(coco.frPyObjects(polygons, height, width))["counts"])
    if not isinstance(shape, dict):
        raise ValueError("expected polygons, or size and counts")
    _check_size(shape.get("size", size), size)
    counts = shape.get("counts")
    if isinstance(counts, list):
        if not all(type(n) is int and 0 <= n <= height * width for n in counts):
            raise ValueError("its counts are not all pixels of the image")
        if sum(counts) != height * width:
            raise ValueError(f"its counts hold {sum(counts)} pixels, not {height} x {width}")
        runs = {"size": [height, width], "counts": counts}
        return bytes(coco.frPyObjects(runs, height, width)["counts"])
    if isinstance(counts, str):
        code = counts.encode()
        if problem := rle.find_problem(code, size):
            raise ValueError(problem)
        return code
    raise ValueError("expected polygons, or size and counts")


def _check_size(own: Any, size: tuple[int, int]) -> None:
    """Raise `ValueError` unless the untrusted ``own`` equals ``size``.

    A different size with the same number of pixels would shear the mask.
    """
    try:
        height, width = (int(side) for side in own)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its size is no height and width") from None
    if (height, width) != size:
        raise ValueError(f"it is {height} x {width} pixels, the image {size[0]} x {size[1]}")


def _check_polygon(polygon: Any, size: tuple[int, int]) -> list[float]:
    """Return the coordinates of a polygon, or raise `ValueError` if it is malformed."""
    if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
        raise ValueError("a polygon is no list of numbers")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers, expected three corners or more")
    points = np.array([float(min(max(value, -1e300), 1e300)) for value in polygon])
    if not (np.abs(points) <= BEYOND * max(size)).all():  # NaN, too
        raise ValueError("a corner of a polygon is no number, or lies far outside the image")
    return [float(value) for value in points]
