"""Convert a COCO "segmentation" in any of its formats to run-length encoding.

Input is validated first, because pycocotools does not: a corner at 1e9 allocates gigabytes, and
invalid counts are read past their end.
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

#: Maximum corner coordinate, as a multiple of the longer side of the image.
MAX_OUTSIDE = 4
#: Maximum number of log lines about invalid masks per image; the rest are counted.
MAX_LOGGED = 5


def read_masks(shapes: Sequence[tuple[str, Any]], boxes: Boxes, size: tuple[int, int]) -> Masks:
    """Read the ground-truth masks of the boxes that have one; invalid masks are logged and skipped.

    Args:
        shapes: for each box, its location for messages, and its segmentation as expected by
            `encode_segmentation`, or None.
        boxes: boxes of one image.
        size: (H, W) of the image, px.

    Returns:
        Masks with their boxes.
    """
    rows, counts, problems = [], [], []
    for i, (where, shape) in enumerate(shapes):
        if shape is None:
            continue
        try:
            counts.append(encode_segmentation(shape, size))
            rows.append(i)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    for problem in problems[:MAX_LOGGED]:
        logger.warning("skipped a ground-truth mask: %s", problem)
    if len(problems) > MAX_LOGGED:
        logger.warning(
            "skipped %d more ground-truth masks of this image", len(problems) - MAX_LOGGED
        )
    return Masks.from_counts(counts, size, boxes=boxes[np.array(rows, np.int64)])


def encode_segmentation(shape: Any, size: tuple[int, int]) -> bytes:
    """Return the compressed run-length counts of a segmentation.

    Args:
        shape: a list of polygons x1 y1 x2 y2 … (px), or a dict with ``size`` and ``counts``,
            compressed or not. If ``size`` is missing, the size of the image is assumed.
        size: (H, W) of the image, px.

    Returns:
        The counts in COCO's compressed encoding.

    Raises:
        ValueError: the segmentation is malformed, or its size differs from ``size``.
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
            raise ValueError("its counts are not integers within the image")
        if sum(counts) != height * width:
            raise ValueError(f"its counts contain {sum(counts)} pixels, not {height} x {width}")
        runs = {"size": [height, width], "counts": counts}
        return bytes(coco.frPyObjects(runs, height, width)["counts"])
    if isinstance(counts, str):
        compressed = counts.encode()
        if problem := rle.find_problem(compressed, size):
            raise ValueError(problem)
        return compressed
    raise ValueError("expected polygons, or size and counts")


def _check_size(declared: Any, size: tuple[int, int]) -> None:
    """Raise `ValueError` unless the size in a segmentation equals ``size``.

    A mask decoded with another width and the same number of pixels would be sheared.

    Raises:
        ValueError: the sizes differ, or ``declared`` is malformed.
    """
    try:
        height, width = (int(side) for side in declared)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its size is not a height and a width") from None
    if (height, width) != size:
        raise ValueError(
            f"its size is {height} x {width} pixels, the size of the image {size[0]} x {size[1]}"
        )


def _check_polygon(polygon: Any, size: tuple[int, int]) -> list[float]:
    """Return the coordinates of a polygon, or raise `ValueError` if it is malformed."""
    if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
        raise ValueError("a polygon is not a list of numbers")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon has {len(polygon)} numbers, expected three corners or more")
    points = np.array([float(min(max(value, -1e300), 1e300)) for value in polygon])
    if not (np.abs(points) <= MAX_OUTSIDE * max(size)).all():  # NaN, too
        raise ValueError("a corner of a polygon is not a number, or lies far outside the image")
    return [float(value) for value in points]
