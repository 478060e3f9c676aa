"""Masks of many point prompts in one embedded window, with the cheapest filters first.

segment_anything upscales every mask to full size, filters by predicted IoU and stability, computes
boxes, and applies non-maximum suppression. `Proposer` checks the predicted IoU before a mask is
upscaled, then applies a tolerant stability filter at low resolution, computes exact boxes from
strips, and suppresses masks in descending order of predicted IoU. It computes the exact stability
only of masks that are not suppressed. The result is the same: a mask that is suppressed *or*
unstable is dropped in either order, and an unstable mask suppresses no mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from alps.masks.candidates import (
    Box,
    Candidates,
    Context,
    Proposal,
    StackCandidates,
    Thresholds,
    WindowCandidates,
)
from alps.masks.filter import pixel_box_iou
from alps.masks.screen import IOU_MARGIN, pick_prompts
from alps.sam.protocol import Embedding, Prediction, Segmenter
from alps.sam.upsample import image_axes
from alps.structures.tiles import Tile


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
        self.axes = image_axes(embedding)

    @torch.inference_mode()
    def __call__(self, accept: Callable[[Box], bool] = lambda _: True) -> list[Proposal]:
        """Return the masks in descending order of predicted IoU.

        Args:
            accept: returns whether to keep a mask with this box.
        """
        candidates = self._decode()
        return candidates.proposals(self._suppress(candidates, accept))

    def _decode(self) -> Candidates:
        """Decode all prompts; return the masks that pass the cheap filters, with exact boxes."""
        on_cpu = self.embedding.features.device.type == "cpu"
        candidates: Candidates = (WindowCandidates if on_cpu else StackCandidates)(
            Context(
                thresholds=self.thresholds,
                axes=self.axes,
                valid=self.valid,
                fast=self.fast,
                decode=self._decode_again,
            )
        )
        prompts = np.arange(len(self.points))
        # torch.set_num_threads applies to the calling thread only.
        with ExitStack() as stack:
            run: Callable[..., Iterator[Any]] = map
            if self.threads > 1 and on_cpu:  # a pool of one thread would only add a memory arena
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
            decode = partial(self._decode_batch, candidates)
            for part in run(decode, self._batches(prompts)):
                candidates.add(part)
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
    def _decode_batch(self, candidates: Candidates, batch: Int64[np.ndarray, " n"]) -> list[Any]:
        """Return the candidates of a batch of prompts."""
        prediction = self._predict(batch, self.fast, self.thresholds.pred_iou_thresh)
        return candidates.collect(batch, prediction)

    def _decode_again(
        self, prompts: Int64[np.ndarray, " n"], fast: bool
    ) -> Float[Tensor, "n M h w"]:
        """Return the logits of all masks of prompts."""
        logits = torch.cat([self._predict(batch, fast).logits for batch in self._batches(prompts)])
        return logits.view(len(prompts), -1, *logits.shape[1:])

    def _predict(
        self, batch: Int64[np.ndarray, " n"], fast: bool, pred_iou_thresh: float = -1.0
    ) -> Prediction:
        """Return the masks of a batch of prompts whose predicted IoU exceeds a threshold."""
        return self.segmenter.predict(
            self.embedding,
            points=self.points[batch],
            pred_iou_thresh=pred_iou_thresh,
            fast=fast,
        )

    def _suppress(self, candidates: Candidates, accept: Callable[[Box], bool]) -> list[int]:
        """Return the candidates that pass suppression and all filters, the best first."""
        scores, boxes = candidates.finish()
        xyxy = boxes.astype(np.float32)
        suppressed = np.zeros(len(scores), bool)
        kept: list[int] = []
        # Two points often give the same mask and score, so the sort has to be stable.
        for i in np.argsort(-scores, kind="stable").tolist():
            x0, y0, x1, y1 = boxes[i].tolist()
            if suppressed[i] or not accept((x0, y0, x1, y1)) or not candidates.passes(i):
                continue
            kept.append(i)
            suppressed |= pixel_box_iou(xyxy[i], xyxy) > self.thresholds.box_nms_thresh
        return kept
