"""Selection of the prompts to decode, by their masks at half the resolution.

Most points of a grid give the same mask as a neighbouring point: in an image of 224 pixels, about
40 of 256 points give all but a few of the masks. The coarse decoder identifies these points in a
quarter of the exact decoder's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from alps.masks.filter import may_be_stable
from alps.sam.protocol import Prediction

#: Reduction of the thresholds of predicted IoU and stability for coarse masks. Coarse and exact
#: predicted IoUs differ by 0.04 (standard deviation).
IOU_MARGIN, STABILITY_MARGIN = 0.2, 0.2
#: IoU from which two coarse masks count as the same.
DUPLICATE_IOU = 0.95


def pick_prompts(
    predictions: Iterable[Prediction], offset: float, stability_score_thresh: float
) -> Int64[np.ndarray, " n"]:
    """Return the prompts with a coarse mask that does not duplicate a mask with a higher score.

    Args:
        predictions: coarse predictions of all batches, made with ``IOU_MARGIN`` below the
            threshold of predicted IoU; ``prompt`` is the index among the prompts of all batches.
        offset: offset of the stability score, in logits.
        stability_score_thresh: minimum stability score of the exact masks.

    Returns:
        The indices of the prompts, ascending.
    """
    parts, scores, prompts = [], [], []
    for batch in predictions:
        stable = may_be_stable(batch.logits, offset, stability_score_thresh - STABILITY_MARGIN)
        stable = stable.cpu()
        parts.append(batch.logits[stable.nonzero()[:, 0].to(batch.logits.device)].flatten(1) > 0)
        scores.append(batch.predicted_iou[stable].numpy())
        prompts.append(batch.prompt[stable].numpy())
    if not parts:
        return np.zeros(0, dtype=np.int64)
    area, overlap = _overlaps(torch.cat(parts))
    skipped = area == 0
    kept: list[int] = []
    for i in np.argsort(-np.concatenate(scores), kind="stable").tolist():
        if not skipped[i]:
            kept.append(i)
            both = overlap(i)
            skipped |= both >= DUPLICATE_IOU * (area + area[i] - both)
    return np.unique(np.concatenate(prompts)[kept])


def _overlaps(
    masks: Bool[Tensor, "n p"],
) -> tuple[Int64[np.ndarray, " n"], Callable[[int], Int64[np.ndarray, " n"]]]:
    """Return the areas of masks, and a function that returns the overlaps of one with all."""
    if masks.device.type == "cpu":
        words = np.packbits(masks.numpy(), axis=1).view(np.uint64)
        area = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
        return area, lambda i: np.bitwise_count(words & words[i]).sum(axis=1, dtype=np.int64)
    pixels = masks.float()  # the products are exact in TF32 too
    pairs = (pixels @ pixels.T).long().cpu().numpy()
    return pairs.diagonal(), lambda i: pairs[i]
