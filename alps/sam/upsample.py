"""Exact upsampling of low-resolution logits to the pixels of an image.

SAM's `postprocess_masks` resizes 256×256 logits to the model's 1024×1024, crops the padding and
resizes the rest to the image. Two bilinear resizes are one matrix per axis: rows @ logits @ colsᵀ.
`alps.sam.patch` computes the product mask by mask, in windows; `alps.sam.stack` for many masks.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from alps.sam.protocol import Embedding


def bilinear(size_in: int, size_out: int, scale: float | None = None) -> Float[Tensor, "o i"]:
    """Return the matrix of a bilinear resize along an axis (``align_corners=False``, no antialias).

    Args:
        size_in: number of inputs, i; the first and the last one are repeated beyond the ends.
        size_out: number of outputs, o.
        scale: number of inputs per output, by default ``size_in / size_out``.

    Returns:
        The matrix; its product with a column of inputs is the column of outputs.
    """
    at = torch.arange(size_out)
    position = (at + 0.5) * (scale or size_in / size_out) - 0.5
    position = position.clamp(0, size_in - 1)
    low = position.long()
    weight = position - low
    matrix = torch.zeros(size_out, size_in)
    matrix[at, low] += 1 - weight
    matrix[at, (low + 1).clamp(max=size_in - 1)] += weight
    return matrix


class Axis:
    """One axis of the upsampling from logits to the image.

    Args:
        low: number of logits along the axis.
        model: side of the model's square input, in pixels.
        used: number of pixels of the input without padding.
        pixels: number of pixels of the image along the axis.
        device: device of the logits.
    """

    def __init__(
        self, low: int, model: int, used: int, pixels: int, device: torch.device | str = "cpu"
    ) -> None:
        matrix = bilinear(used, pixels) @ bilinear(low, model)[:used]
        touched = (matrix != 0).int()
        # Range of the logits that each pixel is interpolated from, ascending.
        self.first: list[int] = touched.argmax(1).tolist()
        self.stop: list[int] = (low - touched.flip(1).argmax(1)).tolist()
        self.matrix = matrix.to(device)

    def pixels(self, active: Bool[Tensor, " low"], start: int = 0) -> range:
        """Return the range of pixels that depend on active logits; the first logit is ``start``."""
        indices = active.nonzero()
        if not len(indices):
            return range(0)
        first, last = start + int(indices[0]), start + int(indices[-1])
        return range(bisect_left(self.stop, first + 1), bisect_left(self.first, last + 1))

    def low(self, pixels: range) -> range:
        """Return the range of logits that a range of pixels depends on."""
        return range(self.first[pixels[0]], self.stop[pixels[-1]])


def image_axes(embedding: Embedding) -> tuple[Axis, Axis]:
    """Return the axes of the rows and columns of an embedded image; the latest are cached."""
    side, device = max(embedding.input_size), embedding.features.device
    rows, cols = (
        _cached_axis(embedding.low_res, side, used, pixels, device)
        for used, pixels in zip(embedding.input_size, embedding.size, strict=True)
    )
    return rows, cols


@lru_cache(maxsize=16)
def _cached_axis(low: int, model: int, used: int, pixels: int, device: torch.device | str) -> Axis:
    return Axis(low, model, used, pixels, device)
