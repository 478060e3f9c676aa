"""Which prompts are worth decoding, judged by their masks at half the resolution.

Most points of a grid find masks that another point finds as well: of 256 points in a patch of 224
pixels some 40 know all but a few of the masks. A coarse decoder costs a quarter of the exact one
and tells which.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64

from alps.masks.filter import may_be_stable
from alps.sam.protocol import Prediction

#: How much lower than the exact ones the coarse scores may be: least predicted IoU and stability.
#: The predicted IoUs differ by 0.04 (standard deviation).
IOU_MARGIN, STABILITY_MARGIN = 0.2, 0.2
#: Coarse masks with this IoU are taken for one mask.
SAME = 0.95


def pick_prompts(
    found: Iterable[Prediction], offset: float, stability_score_thresh: float
) -> Int64[np.ndarray, " n"]:
    """Those with a coarse mask that none of higher predicted IoU nearly equals, ascending.

    Args:
        found: coarse predictions, above the threshold less ``IOU_MARGIN``, numbered through.
        offset: in logits, of the stability score.
        stability_score_thresh: of the exact masks.
    """
    bits, scores, prompts = [], [], []
    for batch in found:
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
