"""Masks with classes become an index map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, Integer
from scipy.ndimage import distance_transform_edt

from alps.structures import rle
from alps.structures.masks import Masks

#: Rows that are filled at once, in `fill_uncovered`.
STRIP = 512


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
            x, y, window = rle.window(masks.counts[i], height)
            box = by_column[x : x + window.shape[0], y : y + window.shape[1]]
            box[window] = category_id[i]
    return np.ascontiguousarray(by_column.T)


def fill_uncovered(
    index_map: Integer[np.ndarray, "H W"], masks: Masks, within: int
) -> Integer[np.ndarray, "H W"]:
    """Give pixels that no mask covers the value of the nearest covered pixel.

    Slivers between masks and small holes close; a mask without a class is no bare ground, and what
    lies nearest to it stays unlabelled too.

    Args:
        index_map: of `paint`.
        masks: the same.
        within: px, the Euclidean distance between pixel centres up to which this is done; 0 fills
            nothing.
    """
    if not within or not len(masks):
        return index_map
    bare = ~rle.decode(rle.union(masks.counts, masks.size), masks.size)
    filled = index_map.copy()
    # In strips, for memory: nothing farther than `within` is asked for, so their seams do not show.
    for top in range(0, masks.size[0], STRIP):
        strip = bare[max(0, top - within) : top + STRIP + within]
        if not strip.any() or strip.all():
            continue
        values = index_map[max(0, top - within) : top + STRIP + within]
        far, (y, x) = distance_transform_edt(strip, return_indices=True)
        near = np.where(far <= within, values[y, x], values)
        own = slice(min(top, within), min(top, within) + STRIP)
        filled[top : top + STRIP] = near[own]
    return filled


def ignore_nodata(
    index_map: Integer[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"] | None,
    ignore_index: int,
) -> Integer[np.ndarray, "H W"]:
    """Set pixels that are no data to ``ignore_index``, whatever class was drawn there.

    Args:
        index_map: classes, not changed in place.
        valid: which pixels are data; None: all.
        ignore_index: of the index map; the type grows where it does not fit.
    """
    if valid is None:
        return index_map
    dtype = np.result_type(index_map.dtype, np.min_scalar_type(ignore_index))
    return np.where(valid, index_map, np.array(ignore_index, dtype))


def covered(masks: Masks) -> int:
    """Pixels that at least one mask covers."""
    return int(rle.area([rle.union(masks.counts, masks.size)], masks.size)[0])
