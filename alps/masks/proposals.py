"""Masks of many point prompts in one embedded window, with the cheapest filters first.

segment_anything upscales every mask to full size, filters by predicted IoU and stability, computes
boxes, and applies non-maximum suppression. `Proposer` checks the predicted IoU before a mask is
upscaled, then applies a tolerant stability filter at low resolution, computes exact boxes from
strips, and suppresses masks in descending order of predicted IoU. It computes the exact stability
only of masks that are not suppressed. The result is the same: a mask that is suppressed *or*
unstable is dropped in either order, and an unstable mask suppresses no mask.
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
from alps.structures.tiles import Tile

Box = tuple[int, int, int, int]

#: Masks whose bfloat16 stability score is this close to the threshold are decoded in float32.
FLOAT32_MARGIN = 0.01
#: Bytes of logits kept for the candidates of a window; candidates beyond it are decoded again.
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
class Candidate:
    """A mask before suppression."""

    prompt: int
    mask: int  # index among the masks of the prompt
    predicted_iou: float
    box: Box  # x0, y0, x1, y1 in pixels, right and lower edge exclusive
    patch: Patch | None  # None if `BUDGET` is exhausted

    @property
    def nbytes(self) -> int:
        """Size of the logits in bytes, 0 without a patch."""
        return 0 if self.patch is None else self.patch.logits.numel() * 4


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A mask that passed all filters."""

    prompt: int
    predicted_iou: float
    stability_score: float
    box: Box
    window: Bool[np.ndarray, "h w"]  # the mask in its box, without no-data pixels


@dataclass(frozen=True, slots=True, eq=False)
class CropProposal:
    """A mask in a crop of an image, and the point that prompted it."""

    crop: Tile
    proposal: Proposal
    point: Float32[np.ndarray, " 2"]  # (x, y) in pixels of the crop


class Proposer:
    """Predicts and filters the masks of one embedded window from point prompts.

    Args:
        segmenter: SAM.
        embedding: embedding of the window.
        points: point prompts, (x, y) in pixels of the window.
        points_per_batch: number of prompts per batch.
        thresholds: thresholds of the filters.
        fast: compute logits in bfloat16 (see `alps.sam.protocol.Segmenter.predict`).
        screen: decode only the points that `alps.masks.screen` selects.
        threads: number of batches decoded in parallel, each by one thread. Two threads on one batch
            would wait for each other in every small product, and round differently.
        valid: pixels of the window that have data (see `alps.masks.valid`); None: all.
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
        """Return the masks in descending order of predicted IoU.

        Args:
            accept: returns whether to keep a mask with this box.
            taken: boxes of earlier masks, which suppress new masks.
        """
        candidates = [c for c in self._decode() if accept(c.box)]
        return list(self._suppress(candidates, taken))

    def _decode(self) -> list[Candidate]:
        """Decode all prompts; return the masks that pass the cheap filters, with exact boxes."""
        candidates = []
        budget = BUDGET
        prompts = np.arange(len(self.points))
        # PyTorch has a number of threads for each thread.
        with ExitStack() as stack:
            run: Callable[..., Iterator[Any]] = map
            if self.threads > 1:  # a pool of one thread would only add a memory arena
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
        """Split the indices of prompts into batches."""
        return [
            prompts[start : start + self.points_per_batch]
            for start in range(0, len(prompts), self.points_per_batch)
        ]

    @torch.inference_mode()
    def _decode_coarse(self, batch: Int64[np.ndarray, " n"]) -> Prediction:
        """Predict the masks of a batch of prompts at half the resolution."""
        prediction = self.segmenter.predict(
            self.embedding,
            points=self.points[batch],
            pred_iou_thresh=self.thresholds.pred_iou_thresh - IOU_MARGIN,
            coarse=True,
        )
        return replace(prediction, prompt=prediction.prompt + int(batch[0]))

    @torch.inference_mode()
    def _decode_batch(self, batch: Int64[np.ndarray, " n"]) -> list[Candidate]:
        """Return the non-empty candidates of a batch of prompts that may be stable."""
        t = self.thresholds
        prediction = self.segmenter.predict(
            self.embedding,
            points=self.points[batch],
            pred_iou_thresh=t.pred_iou_thresh,
            fast=self.fast,
        )
        used = self.axes[0].stop[-1], self.axes[1].stop[-1]
        stable = may_be_stable(
            prediction.logits[:, : used[0], : used[1]],
            t.stability_score_offset,
            t.stability_score_thresh,
        )
        prompts, masks = batch[prediction.prompt.cpu().numpy()].tolist(), prediction.mask.tolist()
        scores = prediction.predicted_iou.tolist()
        candidates = []
        for i in torch.nonzero(stable)[:, 0].tolist():
            patch = Patch.cut(prediction.logits[i], t.stability_score_offset, *self.axes)
            box = patch.box() if patch else None
            if patch is not None and box is not None:
                candidates.append(Candidate(prompts[i], masks[i], scores[i], box, patch))
        return candidates

    def _suppress(self, candidates: list[Candidate], taken: Sequence[Box]) -> Iterator[Proposal]:
        """Yield the masks that pass suppression, stability and area filters, the best first."""
        t = self.thresholds
        kept = _boxes(taken)
        # Two points often give the same mask and score, so the sort has to be stable.
        for candidate in sorted(candidates, key=lambda c: -c.predicted_iou):
            box = _boxes([candidate.box])
            if (pixel_box_iou(box[0], kept) > t.box_nms_thresh).any():
                continue
            patch = candidate.patch or self._redraw(candidate, fast=self.fast)
            stability = patch.stability(t.stability_score_offset)
            if self.fast and abs(stability - t.stability_score_thresh) < FLOAT32_MARGIN:
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
        """Return the pixels of a mask in its box; None if most of them have no data."""
        window: np.ndarray = patch.window(box).cpu().numpy()
        if self.valid is None:
            return window
        x0, y0, x1, y1 = box
        return cut_window(window, self.valid[y0:y1, x0:x1])

    def _redraw(self, candidate: Candidate, *, fast: bool) -> Patch:
        """Decode a candidate again and return its patch."""
        point = self.points[candidate.prompt][None]
        prediction = self.segmenter.predict(self.embedding, points=point, fast=fast)
        logits = prediction.logits[prediction.mask == candidate.mask][0]
        patch = Patch.cut(logits, self.thresholds.stability_score_offset, *self.axes)
        if patch is None:
            raise RuntimeError("decoding a prompt again gave an empty mask")
        return patch


def _boxes(boxes: Sequence[Box]) -> Float[np.ndarray, "N 4"]:
    """Convert boxes to an array."""
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)
