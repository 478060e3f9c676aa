"""Selection of the prompts worth decoding, by their masks at half the resolution.

Most points of a grid find masks that another point finds as well: of 256 points in a patch of 224
pixels, about 40 suffice for all but a few of the masks. A coarse decoder, at a quarter of the cost
of the exact one, identifies them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

from alps.masks.filter import may_be_stable
from alps.sam.protocol import Prediction

#: How far the thresholds of predicted IoU and stability are lowered for coarse masks. Coarse and
#: exact predicted IoUs differ by 0.04 (standard deviation).
IOU_MARGIN, STABILITY_MARGIN = 0.2, 0.2
#: IoU from which two coarse masks count as one.
SAME = 0.95


def pick_prompts(
    predictions: Iterable[Prediction], offset: float, stability_score_thresh: float
) -> Int64[np.ndarray, " n"]:
    """Return the prompts that have a coarse mask which no better mask nearly equals.

    Args:
        predictions: batches of coarse predictions with a predicted IoU above its threshold less
            ``IOU_MARGIN``; ``prompt`` counts through all batches.
        offset: of the stability score, in logits.
        stability_score_thresh: of the exact masks.

    Returns:
        The indices of the prompts, ascending.
    """
    bits, scores, prompts = [], [], []
    for batch in predictions:
        stable = may_be_stable(batch.logits, offset, stability_score_thresh - STABILITY_MARGIN)
        masks = batch.logits[stable].flatten(1) > 0
        bits.append(np.packbits(masks.cpu().numpy(), axis=1))
        scores.append(batch.predicted_iou[stable].cpu().numpy())
        prompts.append(batch.prompt[stable].cpu().numpy())
    if not bits:
        return np.zeros(0, dtype=np.int64)
    words = np.concatenate(bits).view(np.uint64)
    area = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    kept: list[int] = []
    for i in np.argsort(-np.concatenate(scores), kind="stable"):
        both = np.bitwise_count(words[kept] & words[i]).sum(axis=1, dtype=np.int64)
        either = area[kept] + area[i] - both
        if area[i] and not (both >= SAME * either).any():
            kept.append(int(i))
    return np.unique(np.concatenate(prompts)[kept])
