"""COCO's "segmentation", in each of its spellings, as run-length code.

pycocotools trusts what it is given: a corner at 1e9 takes gigabytes, and counts that are none are
read beyond their end. So all is looked at first.
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

#: Corners may lie outside the image by this many of its sides.
BEYOND = 4
#: Of an image's true masks that cannot be used so many are named; the others are counted.
NAMED = 5


def read_masks(shapes: Sequence[tuple[str, Any]], boxes: Boxes, size: tuple[int, int]) -> Masks:
    """The true masks of those boxes that have one; a bad one is told and left out.

    Args:
        shapes: of each box its place, for messages, and what `encode_segmentation` takes, or None.
        boxes: of an image.
        size: (H, W) of the image.
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
    """Compressed counts of an image of ``size`` (H, W).

    Args:
        shape: a list of polygons x1 y1 x2 y2 …, or ``size`` and ``counts``, compressed or not; what
            does not say its size is taken to be as large as the image.
        size: of the image.

    Raises:
        ValueError: it is none of these, or of another size.
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
    """Another one of as many pixels would shear the mask; ``own`` is of unknown origin."""
    try:
        height, width = (int(side) for side in own)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its size is no height and width") from None
    if (height, width) != size:
        raise ValueError(f"it is {height} x {width} pixels, the image {size[0]} x {size[1]}")


def _check_polygon(polygon: Any, size: tuple[int, int]) -> list[float]:
    if not isinstance(polygon, list) or not all(type(value) in (int, float) for value in polygon):
        raise ValueError("a polygon is no list of numbers")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon of {len(polygon)} numbers, expected three corners or more")
    points = np.array([float(min(max(value, -1e300), 1e300)) for value in polygon])
    if not (np.abs(points) <= BEYOND * max(size)).all():  # NaN, too
        raise ValueError("a corner of a polygon is no number, or lies far outside the image")
    return [float(value) for value in points]
