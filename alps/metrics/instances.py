"""COCO's average precision of masks (arXiv 1405.0312), image by image: what is kept is small.

pycocotools wants all masks at once; here an object leaves behind its score and ten bits.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

#: Of IoU, from which on a mask counts as right, and of recall, where precision is read.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def match(
    iou: Float[np.ndarray, "D T"], score: Float[np.ndarray, " D"]
) -> Bool[np.ndarray, "D 10"]:
    """Whether a found mask is right at each of `THRESHOLDS`: the best ones choose first.

    Args:
        iou: of found masks with the true ones of the same image and category.
        score: of the found masks.
    """
    found = np.zeros((len(score), len(THRESHOLDS)), bool)
    free = np.ones((len(THRESHOLDS), iou.shape[1]), bool)
    places = np.arange(len(THRESHOLDS))
    for d in np.argsort(-score, kind="stable"):
        if not iou.shape[1]:
            break
        left = np.where(free, iou[d], -1.0)
        best = iou.shape[1] - 1 - left[:, ::-1].argmax(axis=1)  # the last of equals, as COCO
        found[d] = left[places, best] >= np.minimum(THRESHOLDS, 1 - 1e-10)
        free[places[found[d]], best[found[d]]] = False
    return found


def average_precision(
    score: Float[np.ndarray, " D"], matched: Bool[np.ndarray, "D 10"], n_true: int
) -> Float[np.ndarray, " 10"]:
    """AP of one category at each of `THRESHOLDS`; NaN where there is no true mask.

    Args:
        score: of all found masks, in the order of the images.
        matched: of `match`.
        n_true: true masks.
    """
    if not n_true:
        return np.full(len(THRESHOLDS), np.nan)
    right = matched[np.argsort(-score, kind="stable")]
    hits = right.cumsum(axis=0)
    precision = hits / np.arange(1, len(right) + 1)[:, None]
    # The best precision at this recall or a higher one.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    found = np.zeros(len(THRESHOLDS))
    for t, recall in enumerate((hits / n_true).T):
        at = np.searchsorted(recall, RECALLS, side="left")
        reached = at[at < len(right)]
        found[t] = precision[reached, t].sum() / len(RECALLS)
    return found
