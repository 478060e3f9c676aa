"""Removal of pixels without data from masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from alps.structures import rle
from alps.structures.masks import Masks

#: Smallest fraction of a mask's pixels with data; a mask with less outlines the no-data area.
MIN_VALID = 0.5


def keep_data(masks: Masks, valid: Bool[np.ndarray, "H W"] | None) -> Masks:
    """Remove no-data pixels from masks, and drop masks that consist mostly of such pixels.

    Args:
        masks: masks of one image. Empty masks are kept, and so are the bytes of masks without
            no-data pixels.
        valid: pixels that have data; None: all.

    Returns:
        The remaining masks.
    """
    if valid is None:
        return masks
    counts = tuple(rle.intersect(code, valid) for code in masks.counts)
    area = rle.area(counts, masks.size)
    xyxy = rle.to_xyxy(counts, masks.size)
    return replace(masks, counts=counts, xyxy=xyxy, area=area)[area >= MIN_VALID * masks.area]


def cut_window(
    window: Bool[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"] | None:
    """Remove the no-data pixels of a mask in its box; None if it consists mostly of them."""
    part: Bool[np.ndarray, "h w"] = window & valid
    return part if part.sum() >= MIN_VALID * window.sum() else None
