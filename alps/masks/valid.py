"""Masks without the pixels that are no data: the one place where they are cut and dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from alps.structures import rle
from alps.structures.masks import Masks

#: A mask with a smaller share of its pixels on data is dropped: it shows the hole, not a thing.
LEAST = 0.5


def keep_data(masks: Masks, valid: Bool[np.ndarray, "H W"] | None) -> Masks:
    """Cut masks to the pixels that are data, and drop those of which most is no data.

    Args:
        masks: of one image. Those that lie on data alone keep their bytes, empty ones stay.
        valid: which pixels are data; None: all.
    """
    if valid is None:
        return masks
    counts = tuple(rle.intersect(code, valid) for code in masks.counts)
    area = rle.area(counts, masks.size)
    xyxy = rle.to_xyxy(counts, masks.size)
    return replace(masks, counts=counts, xyxy=xyxy, area=area)[area >= LEAST * masks.area]


def cut_window(
    window: Bool[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"] | None:
    """Cut a mask inside its box as `keep_data` does; None where it is dropped."""
    part: Bool[np.ndarray, "h w"] = window & valid
    return part if part.sum() >= LEAST * window.sum() else None
