"""Masks drawn one by one, each in the window that contains it: the fastest way on a CPU.

A pixel is a convex combination of a few logits. If none of them exceeds a threshold, neither does
the pixel; so a window around the logits above a threshold contains all pixels above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from alps.sam.upsample import Axis

BLOCK = 64  # image rows computed at a time; the array fits into the cache
STRIP = 8  # rows or columns computed at a time in the search for an edge


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
