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

    The score is the IoU of the two masks thresholded at −offset and +offset. Scores at low
    resolution differ from those of the full image: 547 stable masks of real images needed a
    tolerance of 0.05 and 2.4 low-resolution pixels, which small masks determine. The tolerance here
    is 0.05 and 8 pixels.

    Args:
        logits: low-resolution logits of N masks.
        offset: offset of the two thresholds from 0, in logits.
        thresh: minimum stability score in the full image.

    Returns:
        False for each mask that cannot reach ``thresh``.
    """
    inside = (logits > offset).flatten(1).sum(1, dtype=torch.int32)
    outside = (logits > -offset).flatten(1).sum(1, dtype=torch.int32)
    return inside + 8 >= (thresh - 0.05) * outside


def box_iou(
    box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Return the IoU of a box with each of N boxes, all xyxy; 0 if both areas are 0."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    overlap = sides.clip(min=0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - overlap
    iou: np.ndarray = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def pixel_box_iou(
    box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Return the IoU of a pixel box with each of N boxes, as SAM's suppression computes it.

    Boxes are xyxy in pixels with exclusive right and lower edges. SAM's boxes end at the last
    pixel, so a box of a single row or column has area 0 and overlaps nothing, not even itself. Two
    such boxes are compared by their pixels instead; otherwise an image one pixel high would keep
    every duplicate.
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
    """Return whether an inner edge of the crop may have cut off the mask with this box.

    Args:
        box: xyxy in pixels of the crop, right and lower edge exclusive.
        crop: xyxy in pixels of the image.
        size: (H, W) of the image.
        atol: largest distance from an edge, in pixels.

    Returns:
        True if the box comes near an edge of the crop that is not an edge of the image.
    """
    x0, y0, x1, y1 = box
    # In SAM, the edge of a mask is its last pixel, not the exclusive edge.
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
