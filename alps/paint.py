"""Masks with classes become an index map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Integer

from alps import rle
from alps.types import Masks


def ignore_index_for(num_classes: int) -> int:
    """255 while it fits beside the classes into uint8, else 65535.

    >>> ignore_index_for(255), ignore_index_for(256)
    (255, 65535)
    """
    if num_classes > 65535:
        raise ValueError(f"an index map holds at most 65535 classes, got {num_classes}")
    return 255 if num_classes <= 255 else 65535


def paint(
    masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
) -> Integer[np.ndarray, "H W"]:
    """Draw every mask with its class, small masks over large ones.

    Equal areas: the higher ``mask_id`` (place in ``masks``) lies on top. A mask with class -1 is
    unlabelled and not drawn. Pixels no mask covers are ``ignore_index``, never a class.

    Returns:
        uint8 when ``ignore_index`` is 255, else uint16.
    """
    height, width = masks.size
    dtype = np.uint8 if ignore_index <= 255 else np.uint16
    by_column = np.full((width, height), ignore_index, dtype=dtype)
    for i in np.argsort(-masks.area, kind="stable"):
        if category_id[i] >= 0:
            first, window = rle.columns(masks.counts[i], height)
            by_column[first : first + len(window)][window] = category_id[i]
    return np.ascontiguousarray(by_column.T)


def covered(masks: Masks) -> int:
    """Pixels that at least one mask covers."""
    return int(rle.area([rle.union(masks.counts, masks.size)], masks.size)[0]) if len(masks) else 0
