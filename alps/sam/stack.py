"""Masks measured and drawn many at a time, with few kernels and synchronisations: for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from alps.sam.upsample import Axis

#: Masks computed at a time; 64 masks of 1024 × 1024 float32 pixels take 256 MB.
CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Boxes and numbers of pixels of N masks."""

    boxes: Int64[np.ndarray, "N 4"]  # xyxy in pixels, right and lower edge exclusive; 0 if empty
    inner: Int64[np.ndarray, " N"]  # pixels above the offset of the stability score
    outer: Int64[np.ndarray, " N"]  # pixels above minus the offset
    area: Int64[np.ndarray, " N"]
    data: Int64[np.ndarray, " N"]  # area without no-data pixels

    @property
    def stability(self) -> Float[np.ndarray, " N"]:
        """Stability score: IoU of the masks thresholded at the offset and minus the offset."""
        scores: np.ndarray = self.inner / np.maximum(self.outer, 1)
        return scores


@torch.inference_mode()
def measure(
    logits: Float[Tensor, "N h w"],
    axes: tuple[Axis, Axis],
    offset: float,
    valid: Bool[Tensor, "H W"] | None = None,
) -> Int64[Tensor, "N 8"]:
    """Measure masks on the device of their logits, without a synchronisation.

    Args:
        logits: low-resolution logits.
        axes: axes of the rows and columns of the image.
        offset: offset of the stability score, in logits.
        valid: pixels that have data; None: all.

    Returns:
        A table for `to_measures`.
    """
    sums, by_row, by_col = [], [], []
    for part in torch.split(logits, CHUNK):
        pixels = _upsample(part, axes)
        mask = pixels > 0
        data = mask if valid is None else mask & valid
        counted = (pixels > offset, pixels > -offset, mask, data)
        sums.append(torch.stack([each.sum((1, 2)) for each in counted], dim=1))
        by_row.append(mask.any(2))
        by_col.append(mask.any(1))
    if not sums:
        return torch.zeros(0, 8, dtype=torch.int64, device=logits.device)
    (x0, x1), (y0, y1) = _edges(torch.cat(by_col)), _edges(torch.cat(by_row))
    return torch.cat([torch.stack([x0, y0, x1, y1], dim=1), torch.cat(sums)], dim=1)


def to_measures(tables: Sequence[Int64[Tensor, "_ 8"]]) -> Measures:
    """Copy tables of `measure` to the CPU, with one synchronisation."""
    if not tables:
        return Measures(np.zeros((0, 4), np.int64), *np.zeros((4, 0), np.int64))
    table = torch.cat([*tables]).cpu().numpy()
    table[table[:, 6] == 0, :4] = 0
    return Measures(table[:, :4], *table[:, 4:].T.copy())


@torch.inference_mode()
def draw(
    logits: Float[Tensor, "N h w"],
    axes: tuple[Axis, Axis],
    boxes: Int64[np.ndarray, "N 4"],
    valid: Bool[Tensor, "H W"] | None = None,
) -> list[Bool[np.ndarray, "_ _"]]:
    """Return the pixels of each mask in its box.

    The device finds the ends of the vertical runs of each mask; only these are copied to the CPU.

    Args:
        logits: low-resolution logits.
        axes: axes of the rows and columns of the image.
        boxes: boxes of the masks, xyxy in pixels; zeros for an empty mask. Pixels outside are
            dropped: a logit near 0 may be rounded differently than by `measure`.
        valid: pixels that have data; None: all.

    Returns:
        One array per mask, of the size of its box.
    """
    ends = []
    for part in torch.split(logits, CHUNK):
        mask = _upsample(part, axes) > 0
        if valid is not None:
            mask &= valid
        # One empty row above and below each column: no run reaches from one column into the next.
        columns = torch.nn.functional.pad(mask.mT, (1, 1))
        ends.append((columns[..., 1:] != columns[..., :-1]).nonzero())
    if not ends:
        return []
    lengths = [len(part) for part in ends]
    index, column, row = torch.cat(ends).cpu().numpy().T
    index = index + np.repeat(np.arange(len(ends)) * CHUNK, lengths)
    bounds = np.searchsorted(index, np.arange(len(boxes) + 1))
    return [
        _fill(column[start:stop], row[start:stop], box)
        for box, start, stop in zip(boxes.tolist(), bounds[:-1], bounds[1:], strict=True)
    ]


def _fill(
    column: Int64[np.ndarray, " E"], row: Int64[np.ndarray, " E"], box: Sequence[int]
) -> Bool[np.ndarray, "h w"]:
    """Return the pixels in a box between the ends of vertical runs, sorted by column and row."""
    x0, y0, x1, y1 = box
    h, w = y1 - y0, x1 - x0
    inside = (column >= x0) & (column < x1)
    position = (column[inside] - x0) * h + row[inside].clip(y0, y1) - y0
    in_run = np.arange(len(position) + 1) % 2 == 1
    pixels = np.repeat(in_run, np.diff(position, prepend=0, append=h * w))
    return pixels.reshape(w, h).T


def _upsample(logits: Float[Tensor, "n h w"], axes: tuple[Axis, Axis]) -> Float[Tensor, "n H W"]:
    """Return the logits of all pixels of the image."""
    rows, cols = axes
    return rows.matrix @ (logits @ cols.matrix.T)


def _edges(occupied: Bool[Tensor, "N p"]) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
    """Return the first occupied pixel along an axis, and the one after the last."""
    numbers = occupied.int()
    return numbers.argmax(1), occupied.shape[1] - numbers.flip(1).argmax(1)
