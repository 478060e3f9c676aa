"""Masks of point prompts between decoding and suppression, on a CPU and on a GPU.

Both classes give the same masks up to rounding. A CPU computes as little as possible: exact boxes
of the masks, and stability scores and pixels only of those that are not suppressed, each in its own
window. A GPU computes everything of many masks at once, because the number of kernels and
synchronisations determines its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from alps.masks.filter import may_be_stable
from alps.masks.valid import MIN_VALID, cut_window
from alps.sam.patch import Patch
from alps.sam.protocol import Prediction
from alps.sam.stack import draw, measure, to_measures
from alps.sam.upsample import Axis

Box = tuple[int, int, int, int]

#: Masks whose bfloat16 stability score is this close to the threshold are decoded in float32.
FLOAT32_MARGIN = 0.01
#: Bytes of logits kept for the candidates of an embedding; those beyond it are decoded again.
BUDGET = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds of SAM's filters (see `alps.masks.auto.AutoMasks`), with areas in pixels."""

    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    box_nms_thresh: float
    min_area: float
    max_area: float


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask that passed all filters."""

    prompt: int
    predicted_iou: float
    stability_score: float
    box: Box  # xyxy in pixels, right and lower edge exclusive
    window: Bool[np.ndarray, "h w"]  # the mask in its box, without no-data pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the filters of the candidates of an embedding depend on.

    ``fast`` says that the logits are computed in bfloat16. ``decode`` decodes prompts again, with
    or without ``fast``, and returns the logits of all masks of each prompt.
    """

    thresholds: Thresholds
    axes: tuple[Axis, Axis]
    valid: Bool[np.ndarray, "H W"] | None  # None: all pixels have data
    fast: bool
    decode: Callable[[Int64[np.ndarray, " n"], bool], Float[Tensor, "n M h w"]]


@dataclass(slots=True, eq=False)
class _WindowCandidate:
    prompt: int
    mask: int  # index among the masks of the prompt
    predicted_iou: float
    box: Box
    patch: Patch | None  # None if `BUDGET` is exhausted
    stability: float = math.nan
    window: Bool[np.ndarray, "h w"] | None = None


class WindowCandidates:
    """Candidates on a CPU: each mask is drawn in its own window, and only if it is needed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offset = context.thresholds.stability_score_offset
        self._candidates: list[_WindowCandidate] = []
        self._budget = BUDGET

    def collect(
        self, batch: Int64[np.ndarray, " n"], prediction: Prediction
    ) -> list[_WindowCandidate]:
        """Return the candidates of a batch that are not empty; may run in several threads."""
        stable = _may_be_stable(prediction, self._context)
        prompts, masks = batch[prediction.prompt.numpy()].tolist(), prediction.mask.tolist()
        scores = prediction.predicted_iou.tolist()
        candidates = []
        for i in stable.nonzero()[:, 0].tolist():
            patch = Patch.cut(prediction.logits[i], self._offset, *self._context.axes)
            box = patch.box() if patch else None
            if box is not None:
                candidates.append(_WindowCandidate(prompts[i], masks[i], scores[i], box, patch))
        return candidates

    def add(self, candidates: list[_WindowCandidate]) -> None:
        """Add candidates, without their logits if these exceed `BUDGET`."""
        for candidate in candidates:
            assert candidate.patch is not None
            self._budget -= candidate.patch.logits.numel() * 4
            if self._budget <= 0:
                candidate.patch = None
            self._candidates.append(candidate)

    def finish(self) -> tuple[Float32[np.ndarray, " N"], Int64[np.ndarray, "N 4"]]:
        """Return the predicted IoU and the box (xyxy, in pixels) of every candidate."""
        scores = np.array([c.predicted_iou for c in self._candidates], np.float32)
        boxes = np.array([c.box for c in self._candidates], np.int64).reshape(-1, 4)
        return scores, boxes

    def passes(self, i: int) -> bool:
        """Return whether a candidate passes the filters of stability and area."""
        candidate, t = self._candidates[i], self._context.thresholds
        fast = self._context.fast
        patch = candidate.patch or self._decode_again(candidate, fast=fast)
        candidate.stability = patch.stability(self._offset)
        if fast and abs(candidate.stability - t.stability_score_thresh) < FLOAT32_MARGIN:
            patch = self._decode_again(candidate, fast=False)
            candidate.stability = patch.stability(self._offset)
        if candidate.stability < t.stability_score_thresh:
            return False
        candidate.window = self._window(patch, candidate.box)
        area = 0 if candidate.window is None else int(candidate.window.sum())
        return candidate.window is not None and t.min_area <= area <= t.max_area

    def proposals(self, indices: Sequence[int]) -> list[Proposal]:
        """Return the masks of candidates that have passed."""
        candidates = (self._candidates[i] for i in indices)
        return [
            Proposal(c.prompt, c.predicted_iou, c.stability, c.box, c.window)
            for c in candidates
            if c.window is not None
        ]

    def _window(self, patch: Patch, box: Box) -> Bool[np.ndarray, "h w"] | None:
        """Return the pixels of a mask in its box; None if most of them have no data."""
        window: np.ndarray = patch.window(box).numpy()
        if self._context.valid is None:
            return window
        x0, y0, x1, y1 = box
        return cut_window(window, self._context.valid[y0:y1, x0:x1])

    def _decode_again(self, candidate: _WindowCandidate, *, fast: bool) -> Patch:
        logits = self._context.decode(np.array([candidate.prompt]), fast)[0, candidate.mask]
        patch = Patch.cut(logits, self._offset, *self._context.axes)
        if patch is None:
            raise RuntimeError("decoding a prompt again gave an empty mask")
        return patch


@dataclass(frozen=True, slots=True, eq=False)
class _Stack:
    """Candidates of a batch on a GPU."""

    prompt: Int64[np.ndarray, " n"]
    mask: Int64[np.ndarray, " n"]
    predicted_iou: Float32[np.ndarray, " n"]
    logits: Float[Tensor, "n h w"]
    measures: Int64[Tensor, "n 8"]


class StackCandidates:
    """Candidates on a GPU: masks are measured by the batch, and the kept ones drawn together.

    The measures are copied to the CPU once, after the last batch.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offset = context.thresholds.stability_score_offset
        self._stacks: list[_Stack] = []
        self._logits: list[Float[Tensor, "h w"]] = []
        self._valid = (
            None
            if context.valid is None
            else torch.from_numpy(context.valid).to(context.axes[0].matrix.device)
        )

    def collect(self, batch: Int64[np.ndarray, " n"], prediction: Prediction) -> list[_Stack]:
        """Return the candidates of a batch with their measures."""
        stable = _may_be_stable(prediction, self._context).cpu()
        logits = prediction.logits[stable.nonzero()[:, 0].to(prediction.logits.device)]
        return [
            _Stack(
                batch[prediction.prompt[stable].numpy()],
                prediction.mask[stable].numpy(),
                prediction.predicted_iou[stable].numpy(),
                logits,
                measure(logits, self._context.axes, self._offset, self._valid),
            )
        ]

    def add(self, candidates: list[_Stack]) -> None:
        """Add the candidates of the next batch."""
        self._stacks += candidates

    def finish(self) -> tuple[Float32[np.ndarray, " N"], Int64[np.ndarray, "N 4"]]:
        """Return the predicted IoU and the box (xyxy, in pixels) of every candidate."""
        self._logits = [logits for stack in self._stacks for logits in stack.logits]
        self._measures = to_measures([stack.measures for stack in self._stacks])
        self._prompt, self._predicted_iou = (
            np.concatenate([np.zeros(0, dtype), *parts])
            for dtype, parts in (
                (np.int64, [stack.prompt for stack in self._stacks]),
                (np.float32, [stack.predicted_iou for stack in self._stacks]),
            )
        )
        if self._context.fast:
            self._decode_doubtful()
        return self._predicted_iou, self._measures.boxes

    def passes(self, i: int) -> bool:
        """Return whether a candidate passes the filters of stability and area."""
        t, m = self._context.thresholds, self._measures
        return bool(
            m.stability[i] >= t.stability_score_thresh
            and m.data[i] >= max(1, MIN_VALID * m.area[i])
            and t.min_area <= m.data[i] <= t.max_area
        )

    def proposals(self, indices: Sequence[int]) -> list[Proposal]:
        """Return the masks of candidates that have passed."""
        if not indices:
            return []
        boxes = self._measures.boxes[[*indices]]
        logits = torch.stack([self._logits[i] for i in indices])
        windows = draw(logits, self._context.axes, boxes, self._valid)
        return [
            Proposal(
                int(self._prompt[i]),
                float(self._predicted_iou[i]),
                float(self._measures.stability[i]),
                (box[0], box[1], box[2], box[3]),
                window,
            )
            for i, box, window in zip(indices, boxes.tolist(), windows, strict=True)
        ]

    def _decode_doubtful(self) -> None:
        """Replace masks whose bfloat16 stability is near the threshold by those of float32."""
        thresh, m = self._context.thresholds.stability_score_thresh, self._measures
        doubtful = np.flatnonzero(np.abs(m.stability - thresh) < FLOAT32_MARGIN)
        if not len(doubtful):
            return
        mask = np.concatenate([stack.mask for stack in self._stacks])[doubtful]
        prompts, row = np.unique(self._prompt[doubtful], return_inverse=True)
        decoded = self._context.decode(prompts, False)
        at = (torch.from_numpy(i).to(decoded.device) for i in (row, mask))
        logits = decoded[tuple(at)]
        exact = to_measures([measure(logits, self._context.axes, self._offset, self._valid)])
        for i, each in zip(doubtful, logits, strict=True):
            self._logits[i] = each
        # As on a CPU, the box of the bfloat16 mask stays.
        for name in ("inner", "outer", "area", "data"):
            getattr(m, name)[doubtful] = getattr(exact, name)


#: Masks with a sufficient predicted IoU that may be stable.
Candidates = WindowCandidates | StackCandidates


def _may_be_stable(prediction: Prediction, context: Context) -> Bool[Tensor, " n"]:
    """Return which masks may reach the stability score, from their logits without the padding."""
    rows, cols = context.axes
    return may_be_stable(
        prediction.logits[:, : rows.stop[-1], : cols.stop[-1]],
        context.thresholds.stability_score_offset,
        context.thresholds.stability_score_thresh,
    )
