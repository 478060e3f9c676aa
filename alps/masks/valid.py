"""Removal of pixels without data from masks: the one place where masks are cut and dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from alps.structures import rle
from alps.structures.masks import Masks

#: Share of pixels with data below which a mask is dropped: it outlines the hole, not an object.
LEAST = 0.5


def keep_data(masks: Masks, valid: Bool[np.ndarray, "H W"] | None) -> Masks:
    """Cut masks to the pixels that hold data, and drop those that lie mostly outside them.

    Args:
        masks: of one image. Masks that lie wholly on data keep their bytes; empty masks are kept.
        valid: which pixels hold data; None if all do.
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
    """Cut a mask inside its box as `keep_data` does; None if it is dropped."""
    part: Bool[np.ndarray, "h w"] = window & valid
    return part if part.sum() >= LEAST * window.sum() else None
