"""Masks for many point prompts in one embedded window, in the cheapest order that changes nothing.

segment_anything's order: every mask at full size, filter by predicted IoU, by stability, boxes,
non-maximum suppression. Here: predicted IoU before a mask is drawn; a loose stability filter at low
resolution; exact boxes from strips; then suppression from the best predicted IoU downwards, in
which the exact stability is asked only of masks that no better one suppresses. A mask that is
suppressed *or* unstable is gone either way, and an unstable one never suppresses, so the result is
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64

from alps.masks.filter import may_be_stable, pixel_box_iou
from alps.masks.screen import IOU_MARGIN, pick_prompts
from alps.masks.valid import cut_window
from alps.sam.protocol import Embedding, Prediction, Segmenter
from alps.sam.upsample import Axis, Patch

Box = tuple[int, int, int, int]

#: With bfloat16 logits, masks whose stability lies this near the threshold are decoded again in
#: float32.
DOUBT = 0.01
#: Bytes of logits kept of a window's candidates; beyond, they are decoded again when needed.
BUDGET = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """SAM's filters, see `alps.masks.auto.AutoMasks`; areas in pixels."""

    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    box_nms_thresh: float
    min_area: float
    max_area: float


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A mask before suppression."""

    prompt: int
    mask: int  # of the prompt's masks
    predicted_iou: float
    box: Box  # x0, y0, x1, y1 in pixels, right and lower edge exclusive
    patch: Patch | None  # None: over the budget

    @property
    def nbytes(self) -> int:
        """Of its logits."""
        return 0 if self.patch is None else self.patch.logits.numel() * 4


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask of the result."""

    prompt: int
    predicted_iou: float
    stability_score: float
    box: Box
    window: Bool[np.ndarray, "h w"]  # the mask inside its box, without what is no data


class Proposer:
    """One embedded window and its prompts.

    Args:
        segmenter: the SAM.
        embedding: of the window.
        points: x y in pixels of the window.
        points_per_batch: prompts decoded at once.
        thresholds: which masks stay.
        fast: see `alps.sam.protocol.Segmenter.predict`.
        screen: decode only the points that `alps.masks.screen` picks.
        threads: batches decoded side by side. A batch is one thread's work: two threads on one
            batch would wait for each other in every small product, and round differently.
        valid: which pixels of the window are data, see `alps.masks.valid`; None: all.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        embedding: Embedding,
        points: Float32[np.ndarray, "P 2"],
        *,
        points_per_batch: int,
        thresholds: Thresholds,
        fast: bool,
        screen: bool = False,
        threads: int = 1,
        valid: Bool[np.ndarray, "H W"] | None = None,
    ) -> None:
        self.segmenter, self.embedding, self.points = segmenter, embedding, points
        self.points_per_batch, self.thresholds, self.fast = points_per_batch, thresholds, fast
        self.screen, self.threads, self.valid = screen, threads, valid
        side = max(embedding.input_size)
        low = embedding.low_res
        device = embedding.features.device
        self.axes = tuple(
            Axis(low, side, used, pixels, device)
            for used, pixels in zip(embedding.input_size, embedding.size, strict=True)
        )

    @torch.inference_mode()
    def __call__(
        self, accept: Callable[[Box], bool] = lambda _: True, taken: Sequence[Box] = ()
    ) -> list[Proposal]:
        """The masks, best predicted IoU first.

        Args:
            accept: which boxes may stay.
            taken: boxes of earlier masks, which suppress and are not suppressed.
        """
        candidates = [c for c in self._decode() if accept(c.box)]
        return list(self._suppress(candidates, taken))

    def _decode(self) -> list[Candidate]:
        """Masks that pass the cheap filters, with exact boxes, in the order of the prompts."""
        candidates = []
        budget = BUDGET
        prompts = np.arange(len(self.points))
        # PyTorch's own threads are counted per thread.
        with ExitStack() as stack:
            run: Callable[..., Iterator[Any]] = map
            if self.threads > 1:  # a pool of one would only keep a heap of its own
                pool = ThreadPoolExecutor(
                    self.threads, initializer=torch.set_num_threads, initargs=(1,)
                )
                run = stack.enter_context(pool).map
            if self.screen:
                coarse = run(self._decode_coarse, self._batches(prompts))
                prompts = pick_prompts(
                    coarse,
                    self.thresholds.stability_score_offset,
                    self.thresholds.stability_score_thresh,
                )
            for candidate in chain.from_iterable(run(self._decode_batch, self._batches(prompts))):
                budget -= candidate.nbytes
                candidates.append(candidate if budget > 0 else replace(candidate, patch=None))
        return candidates

    def _batches(self, prompts: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " _"]]:
        return [
            prompts[start : start + self.points_per_batch]
            for start in range(0, len(prompts), self.points_per_batch)
        ]

    @torch.inference_mode()
    def _decode_coarse(self, batch: Int64[np.ndarray, " n"]) -> Prediction:
        found = self.segmenter.predict(
            self.embedding,
            points=self.points[batch],
            pred_iou_thresh=self.thresholds.pred_iou_thresh - IOU_MARGIN,
            coarse=True,
        )
        return replace(found, prompt=found.prompt + int(batch[0]))

    @torch.inference_mode()
    def _decode_batch(self, batch: Int64[np.ndarray, " n"]) -> list[Candidate]:
        t = self.thresholds
        found = self.segmenter.predict(
            self.embedding,
            points=self.points[batch],
            pred_iou_thresh=t.pred_iou_thresh,
            fast=self.fast,
        )
        used = self.axes[0].stop[-1], self.axes[1].stop[-1]
        stable = may_be_stable(
            found.logits[:, : used[0], : used[1]],
            t.stability_score_offset,
            t.stability_score_thresh,
        )
        prompts, masks = batch[found.prompt.cpu().numpy()].tolist(), found.mask.tolist()
        scores = found.predicted_iou.tolist()
        candidates = []
        for i in torch.nonzero(stable)[:, 0].tolist():
            patch = Patch.cut(found.logits[i], t.stability_score_offset, *self.axes)
            box = patch.box() if patch else None
            if patch is not None and box is not None:
                candidates.append(Candidate(prompts[i], masks[i], scores[i], box, patch))
        return candidates

    def _suppress(self, candidates: list[Candidate], taken: Sequence[Box]) -> Iterator[Proposal]:
        """Best first: drop what a kept one overlaps, then what is unstable; draw the rest."""
        t = self.thresholds
        kept = _boxes(taken)
        # Equal scores are common (one mask found from two points): the sort is stable.
        for candidate in sorted(candidates, key=lambda c: -c.predicted_iou):
            box = _boxes([candidate.box])
            if (pixel_box_iou(box[0], kept) > t.box_nms_thresh).any():
                continue
            patch = candidate.patch or self._redraw(candidate, fast=self.fast)
            stability = patch.stability(t.stability_score_offset)
            if self.fast and abs(stability - t.stability_score_thresh) < DOUBT:
                patch = self._redraw(candidate, fast=False)
                stability = patch.stability(t.stability_score_offset)
            if stability < t.stability_score_thresh:
                continue
            window = self._window(patch, candidate.box)
            if window is None or not t.min_area <= window.sum() <= t.max_area:
                continue
            kept = np.concatenate([kept, box])
            yield Proposal(
                candidate.prompt, candidate.predicted_iou, stability, candidate.box, window
            )

    def _window(self, patch: Patch, box: Box) -> Bool[np.ndarray, "h w"] | None:
        """Draw a mask inside its box; None where most of it is no data."""
        window: np.ndarray = patch.window(box).cpu().numpy()
        if self.valid is None:
            return window
        x0, y0, x1, y1 = box
        return cut_window(window, self.valid[y0:y1, x0:x1])

    def _redraw(self, candidate: Candidate, *, fast: bool) -> Patch:
        point = self.points[candidate.prompt][None]
        found = self.segmenter.predict(self.embedding, points=point, fast=fast)
        logits = found.logits[found.mask == candidate.mask][0]
        patch = Patch.cut(logits, self.thresholds.stability_score_offset, *self.axes)
        if patch is None:
            raise RuntimeError("a mask that was there is empty when it is decoded again")
        return patch


def _boxes(boxes: Sequence[Box]) -> Float[np.ndarray, "N 4"]:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)
