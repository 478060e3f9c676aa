"""Draw masks with classes as an index map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, Integer
from scipy.ndimage import distance_transform_edt

from alps.structures import rle
from alps.structures.masks import Masks

#: Number of rows that `fill_uncovered` processes at a time.
STRIP = 512


def ignore_index_for(num_classes: int) -> int:
    """Return 255 if it and all classes fit into uint8, else 65535.

    Raises:
        ValueError: there are more than 65535 classes.

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

    If areas are equal, the mask with the higher ``mask_id`` (index in ``masks``) is on top.

    Args:
        masks: the N masks of an image.
        category_id: class of each mask; -1: no class, the mask is not drawn.
        ignore_index: value of uncovered pixels.

    Returns:
        The index map (H, W): uint8 if ``ignore_index`` is at most 255, else uint16.
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
    """Fill uncovered pixels with the value of the nearest covered pixel.

    This fills narrow gaps between masks and small holes. Masks without a class cover their pixels,
    so uncovered pixels nearest to such a mask stay unlabelled.

    Args:
        index_map: the result of `paint`.
        masks: the masks that `paint` has drawn.
        within: maximum Euclidean distance between pixel centres, px; 0 fills nothing.

    Returns:
        The filled index map; ``index_map`` is not modified.
    """
    if not within or not len(masks):
        return index_map
    uncovered = ~rle.decode(rle.union(masks.counts, masks.size), masks.size)
    filled = index_map.copy()
    # Strips limit the memory. `within` more rows on each side prevent seams between strips.
    for top in range(0, masks.size[0], STRIP):
        strip = uncovered[max(0, top - within) : top + STRIP + within]
        if not strip.any() or strip.all():
            continue
        values = index_map[max(0, top - within) : top + STRIP + within]
        distance, (y, x) = distance_transform_edt(strip, return_indices=True)
        nearest = np.where(distance <= within, values[y, x], values)
        rows = slice(min(top, within), min(top, within) + STRIP)
        filled[top : top + STRIP] = nearest[rows]
    return filled


def ignore_nodata(
    index_map: Integer[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"] | None,
    ignore_index: int,
) -> Integer[np.ndarray, "H W"]:
    """Return an index map with no-data pixels set to ``ignore_index``.

    Args:
        index_map: classes; not modified.
        valid: True for pixels with data; None: all pixels have data.
        ignore_index: value of unlabelled pixels; if it does not fit into the dtype of
            ``index_map``, the result has a larger dtype.
    """
    if valid is None:
        return index_map
    dtype = np.result_type(index_map.dtype, np.min_scalar_type(ignore_index))
    return np.where(valid, index_map, np.array(ignore_index, dtype))


def count_covered(masks: Masks) -> int:
    """Count the pixels that at least one mask covers."""
    return int(rle.area([rle.union(masks.counts, masks.size)], masks.size)[0])
