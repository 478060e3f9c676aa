"""Means of a feature map inside masks, all masks of an image at once.

The reference way lifts the features to the masks' resolution, C × H × W numbers per image, and
multiplies them with each mask. Bilinear interpolation is linear, so the masks can go down instead::

    Σ_p up(F)[p] · m[p]  =  Σ_q F[q] · (Uyᵀ m Ux)[q]

with the interpolation matrices U (pixels × cells): the same sums from N × h × w numbers, and one
product for all masks. Divided by its area that is the mask's mean (not by the number of non-zero
features).
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def interpolation_weights(
    mask: Bool[Tensor, "H W"], along_y: Float[Tensor, "H h"], along_x: Float[Tensor, "W w"]
) -> Float[Tensor, "h w"]:
    """How much each cell counts in the sum of the interpolated map over a mask's pixels.

    A mask may be given as the window around it, with the rows of the matrices that lie there.
    """
    return along_y.T @ (mask.to(along_x.dtype) @ along_x)
