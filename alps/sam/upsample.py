"""Exact upsampling of low-resolution logits, restricted to the window that contains a mask.

SAM's `postprocess_masks` resizes 256×256 logits to the model's 1024×1024, crops the padding and
resizes the rest to the image. Two bilinear resizes are one matrix per axis: rows @ logits @ colsᵀ.
A pixel is a convex combination of a few logits. If none of them exceeds a threshold, neither does
the pixel; so a window around the logits above a threshold contains all pixels above it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 64  # image rows computed at a time; the array fits into the cache
STRIP = 8  # rows or columns computed at a time in the search for an edge


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
        """Return the range of pixels that depend on active logits, numbered from ``start``."""
        indices = active.nonzero()
        if not len(indices):
            return range(0)
        first, last = start + int(indices[0]), start + int(indices[-1])
        return range(bisect_left(self.stop, first + 1), bisect_left(self.first, last + 1))

    def low(self, pixels: range) -> range:
        """Return the range of logits that a range of pixels depends on."""
        return range(self.first[pixels[0]], self.stop[pixels[-1]])


@dataclass(frozen=True, slots=True)
class Patch:
    """Logits of one mask in a window, and the pixels of the image that may exceed ``-offset``."""

    logits: Float[Tensor, "y x"]
    rows: Axis
    cols: Axis
    ys: range  # range of the pixels that may exceed -offset
    xs: range

    @classmethod
    def cut(
        cls, logits: Float[Tensor, "Y X"], offset: float, rows: Axis, cols: Axis
    ) -> Patch | None:
        """Cut out the logits that the pixels of a mask above ``-offset`` depend on.

        Args:
            logits: logits of the whole input, at low resolution.
            offset: offset of the stability score, in logits.
            rows: axis of the image's rows.
            cols: axis of the image's columns.

        Returns:
            The patch, or None if no pixel can exceed ``-offset``.
        """
        ys = rows.pixels(logits.amax(1) > -offset)
        xs = cols.pixels(logits.amax(0) > -offset)
        if not ys or not xs:
            return None
        i, j = rows.low(ys), cols.low(xs)
        # Copied, so that the memory of the whole array can be freed.
        return cls(logits[i.start : i.stop, j.start : j.stop].clone(), rows, cols, ys, xs)

    def blocks(self, ys: range, xs: range) -> Iterator[Float[Tensor, "h w"]]:
        """Yield the logits of the image in a window of rows and columns, `BLOCK` rows at a time."""
        top, left = self.rows.low(self.ys).start, self.cols.low(self.xs).start
        j = self.cols.low(xs)
        wide = self.cols.matrix[xs.start : xs.stop, j.start : j.stop].T
        for start in range(ys.start, ys.stop, BLOCK):
            block = range(start, min(start + BLOCK, ys.stop))
            i = self.rows.low(block)
            low = self.logits[i.start - top : i.stop - top, j.start - left : j.stop - left]
            yield self.rows.matrix[block.start : block.stop, i.start : i.stop] @ (low @ wide)

    def stability(self, offset: float) -> float:
        """Return SAM's stability score: pixels above ``offset`` over pixels above ``-offset``."""
        inner = outer = 0
        for block in self.blocks(self.ys, self.xs):
            inner += int((block > offset).sum())
            outer += int((block > -offset).sum())
        return inner / outer if outer else 0.0

    def window(self, box: tuple[int, int, int, int]) -> Bool[Tensor, "h w"]:
        """Return the mask inside a box, xyxy in pixels."""
        x0, y0, x1, y1 = box
        return torch.cat([block > 0 for block in self.blocks(range(y0, y1), range(x0, x1))])

    def box(self) -> tuple[int, int, int, int] | None:
        """Return the tight box of the mask, or None if it is empty.

        The box is xyxy in pixels, with exclusive right and lower edges. Strips are computed from
        the outside inwards until one contains a pixel of the mask.
        """
        inside = self.logits > 0
        ys = self.rows.pixels(inside.any(1), self.rows.low(self.ys).start)
        xs = self.cols.pixels(inside.any(0), self.cols.low(self.xs).start)

        row = partial(self._rows_in, xs=xs)
        if not xs or (y0 := _first(ys, row)) is None or (y1 := _first(ys[::-1], row)) is None:
            return None
        col = partial(self._cols_in, range(y0, y1 + 1))
        if (x0 := _first(xs, col)) is None or (x1 := _first(xs[::-1], col)) is None:
            return None
        return x0, y0, x1 + 1, y1 + 1

    def _rows_in(self, ys: range, xs: range) -> Bool[Tensor, " n"]:
        """Return which rows of a window contain a pixel of the mask."""
        return torch.cat([block.amax(1) for block in self.blocks(ys, xs)]) > 0

    def _cols_in(self, ys: range, xs: range) -> Bool[Tensor, " n"]:
        """Return which columns of a window contain a pixel of the mask."""
        return torch.stack([block.amax(0) for block in self.blocks(ys, xs)]).amax(0) > 0


def _first(side: range, positive: Callable[[range], Bool[Tensor, " n"]]) -> int | None:
    """Return the first positive pixel of a range, which may descend; compute strip by strip."""
    for start in range(0, len(side), STRIP):
        strip = side[start : start + STRIP]
        indices = positive(range(min(strip), max(strip) + 1)).nonzero()
        if len(indices):
            return min(strip) + int(indices[0] if side.step > 0 else indices[-1])
    return None
