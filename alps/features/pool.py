"""Means of a feature map inside masks, all masks of an image at once.

The reference way lifts the features to the masks' resolution, C × H × W numbers per image, and
multiplies them with each mask. Bilinear interpolation is linear, so the masks can go down instead::

    Σ_p up(F)[p] · m[p]  =  Σ_q F[q] · (Uyᵀ m Ux)[q]

with the interpolation matrices U (pixels × cells): the same sums from N × h × w numbers, and one
product for all masks. Divided by its area that is the mask's mean (not by the number of non-zero
features).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def bilinear_matrix(pixels: int, cells: int, stride: float) -> Float[Tensor, "pixels cells"]:
    """Weights with which each pixel reads from a row of cells.

    Pixel centres lie at ``(i + ½) / stride − ½`` in cells (``align_corners=False``); beyond the
    first and last cell the nearest one counts, so padding outside ``cells`` is never read.
    """
    at = torch.arange(pixels)
    position = ((at + 0.5) / stride - 0.5).clamp(0, cells - 1)
    low = position.long()
    weight = position - low
    matrix = torch.zeros(pixels, cells)
    matrix[at, low] += 1 - weight
    matrix[at, (low + 1).clamp(max=cells - 1)] += weight
    return matrix


def interpolation_weights(
    mask: Bool[Tensor, "H W"], along_y: Float[Tensor, "H h"], along_x: Float[Tensor, "W w"]
) -> Float[Tensor, "h w"]:
    """How much each cell counts in the sum of the interpolated map over a mask's pixels.

    A mask may be given as the window around it, with the rows of the matrices that lie there.
    """
    return along_y.T @ (mask.to(along_x.dtype) @ along_x)
