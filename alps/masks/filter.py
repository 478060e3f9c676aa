"""Which mask candidates stay: pure functions on logits, boxes and areas."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torchvision.ops import nms


def stability_score(logits: Float[Tensor, "N H W"], offset: float) -> Float[Tensor, " N"]:
    """IoU of the masks cut at +offset and at −offset (SAM, appendix B); 0 where both are empty."""
    inside = (logits > offset).flatten(1).sum(1)
    outside = (logits > -offset).flatten(1).sum(1)
    return inside / outside.clamp(min=1)


def area_gate(
    area: Integer[Tensor, " N"], tile_area: int, min_area: float, max_area: float
) -> Bool[Tensor, " N"]:
    """Masks whose share of the tile's pixels lies in ``[min_area, max_area]``; never empty ones."""
    share = area / tile_area
    return (area > 0) & (share >= min_area) & (share <= max_area)


def box_nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], iou_thresh: float
) -> Integer[Tensor, " M"]:
    """Indices of the boxes kept, best score first, none overlapping a better one too much."""
    # Equal scores are common (copies of a mask from neighbouring points): a stable order decides.
    order = torch.argsort(scores, descending=True, stable=True)
    rank = torch.arange(len(scores), 0, -1, device=scores.device, dtype=torch.float)
    return order[cast(Tensor, nms(boxes[order], rank, iou_thresh))]
