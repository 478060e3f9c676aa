"""Means of a feature map inside masks, all masks of an image at once.

The reference way lifts the features to the masks' resolution, C × H × W numbers per image, and
multiplies them with each mask. Bilinear interpolation is linear, so the masks can go down instead::

    Σ_p up(F)[p] · m[p]  =  Σ_q F[q] · (Uyᵀ m Ux)[q]

with the interpolation matrices U (pixels × cells): the same sums from N × h × w numbers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32


def bilinear_matrix(pixels: int, cells: int, stride: float) -> Float32[np.ndarray, "pixels cells"]:
    """Weights with which each pixel reads from a row of cells.

    Pixel centres lie at ``(i + ½) / stride − ½`` in cells (``align_corners=False``); beyond the
    first and last cell the nearest one counts, so padding outside ``cells`` is never read.
    """
    position = np.clip((np.arange(pixels) + 0.5) / stride - 0.5, 0, cells - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, cells - 1)
    weight = (position - low).astype(np.float32)
    matrix = np.zeros((pixels, cells), dtype=np.float32)
    rows = np.arange(pixels)
    np.add.at(matrix, (rows, low), 1 - weight)
    np.add.at(matrix, (rows, high), weight)
    return matrix


def pool_sums(
    features: Float32[np.ndarray, "C h w"],
    masks: Bool[np.ndarray, "N H W"],
    along_y: Float32[np.ndarray, "H h"],
    along_x: Float32[np.ndarray, "W w"],
) -> Float32[np.ndarray, "N C"]:
    """Sum of the interpolated feature map over the pixels of each mask.

    Divide by the mask's area for its mean — not by the number of non-zero features.
    """
    weights = along_y.T @ (masks.astype(np.float32) @ along_x)
    n, c = len(masks), len(features)
    return np.asarray(weights.reshape(n, -1) @ features.reshape(c, -1).T)
