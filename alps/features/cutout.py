"""Cut-outs: one square image per mask, for networks that take one object at a time."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.tiles import Tile

#: Side of the square divided by the longer side of the mask's box.
CONTEXT = 1.2
#: Cut-outs per batch.
BATCH = 16


def cut_out(
    sample: Sample, masks: Masks, i: int, *, side: int, fill: UInt8[np.ndarray, " 3"]
) -> UInt8[np.ndarray, "S S 3"]:
    """Cut a mask out of its image, into the centre of a square.

    Args:
        sample: the image.
        masks: masks of the image.
        i: index of the mask.
        side: side of the square, S, in pixels.
        fill: RGB colour of all pixels outside the mask.

    Returns:
        The square; the longer side of the mask's box is 1 / `CONTEXT` of its side.
    """
    x0, y0, x1, y1 = (int(v) for v in masks.xyxy[i])
    scale = side / (CONTEXT * max(x1 - x0, y1 - y0))
    width, height = (max(round(scale * length), 1) for length in (x1 - x0, y1 - y0))
    mask = rle.decode_window(masks.counts[i], masks.size[0], Tile(x0, y0, x1, y1))
    cropped = np.where(mask[..., None], sample.image[y0:y1, x0:x1], fill)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.empty((side, side, 3), np.uint8)
    square[:] = fill
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = cv2.resize(
        cropped, (width, height), interpolation=interpolation
    )
    return square


def batches_of_cutouts(
    sample: Sample, masks: Masks, *, side: int, fill: UInt8[np.ndarray, " 3"]
) -> Iterator[UInt8[np.ndarray, "B S S 3"]]:
    """Yield the cut-outs of all masks in order, `BATCH` at a time; the last batch may be smaller.

    Args:
        sample: the image.
        masks: masks of the image.
        side: side of a cut-out, S, in pixels.
        fill: RGB colour of all pixels outside a mask.
    """
    for start in range(0, len(masks), BATCH):
        stop = min(start + BATCH, len(masks))
        yield np.stack(
            [cut_out(sample, masks, i, side=side, fill=fill) for i in range(start, stop)]
        )
