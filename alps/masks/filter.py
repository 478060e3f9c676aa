"""Filters of mask candidates and prompts: pure functions of logits, boxes and points."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor


def may_be_stable(
    logits: Float[Tensor, "N h w"], offset: float, thresh: float
) -> Bool[Tensor, " N"]:
    """Return which masks may reach a stability score (SAM, appendix B), from low-resolution logits.

    The score is the IoU of the mask cut at +offset and at −offset. At the size of the image it
    differs: the worst of 547 stable masks of real images needed a slack of 0.05 and 2.4
    low-resolution pixels, small masks the most; the slack here is 0.05 and 8 pixels.

    Args:
        logits: of N masks at low resolution.
        offset: of the two cuts, in logits.
        thresh: lowest stability score at the size of the image.

    Returns:
        False for each mask that cannot reach ``thresh``.
    """
    inside = (logits > offset).flatten(1).sum(1, dtype=torch.int32)
    outside = (logits > -offset).flatten(1).sum(1, dtype=torch.int32)
    return inside + 8 >= (thresh - 0.05) * outside


def box_iou(
    box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Return the IoU of one box with others, all xyxy; 0 where neither has an area."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    overlap = sides.clip(min=0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - overlap
    iou: np.ndarray = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def pixel_box_iou(
    box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Return the IoU of one pixel box with others as SAM's suppression computes it.

    Boxes are xyxy in pixels with exclusive right and lower edges. SAM's own boxes end at the last
    pixel, so a box of a single row or column has no area and overlaps nothing, not even itself.
    Two such boxes are compared by their pixels instead; otherwise an image one pixel high would
    keep every duplicate.
    """
    last = np.array([0, 0, 1, 1], box.dtype)
    iou = box_iou(box - last, others - last)
    if (box[2:] - box[:2] > 1).all():
        return iou
    thin = (others[:, 2:] - others[:, :2] <= 1).any(axis=1)
    return np.where(thin, box_iou(box, others), iou)


def near_crop_edge(
    box: tuple[int, int, int, int],
    crop: tuple[int, int, int, int],
    size: tuple[int, int],
    atol: float = 20,
) -> bool:
    """Return whether a box ends near an edge of its crop that is no edge of the image.

    Such a mask may be cut off.

    Args:
        box: xyxy in pixels of the crop, right and lower edge exclusive.
        crop: xyxy in pixels of the image.
        size: (H, W) of the image.
        atol: largest distance that counts as near, in pixels.

    Returns:
        True if at least one edge of the box is near.
    """
    x0, y0, x1, y1 = box
    # SAM takes the last pixel, not the exclusive edge, as the edge of a mask.
    edges = (x0 + crop[0], y0 + crop[1], x1 - 1 + crop[0], y1 - 1 + crop[1])
    image = (0, 0, size[1], size[0])
    return any(
        abs(edge - c) <= atol and abs(edge - i) > atol
        for edge, c, i in zip(edges, crop, image, strict=True)
    )


def values_at(
    pixels: Bool[np.ndarray, "H W"], points: Float32[np.ndarray, "P 2"]
) -> Bool[np.ndarray, " P"]:
    """Return the value of the pixel that contains each point, (x, y) in pixels."""
    x, y = np.minimum(points.astype(int), (pixels.shape[1] - 1, pixels.shape[0] - 1)).T
    values: np.ndarray = pixels[y, x]
    return values
