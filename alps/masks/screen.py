"""Selection of the prompts to decode, by their masks at half the resolution.

Most points of a grid give the same mask as a neighbouring point: in an image of 224 pixels, about
40 of 256 points give all but a few of the masks. The coarse decoder identifies these points in a
quarter of the exact decoder's time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

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
            threshold of predicted IoU; ``prompt`` numbers the prompts of all batches.
        offset: offset of the stability score, in logits.
        stability_score_thresh: minimum stability score of the exact masks.

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
        if area[i] and not (both >= DUPLICATE_IOU * either).any():
            kept.append(int(i))
    return np.unique(np.concatenate(prompts)[kept])
