"""COCO's average precision of masks (arXiv 1405.0312), computed image by image.

pycocotools needs all masks in memory; here only a score and ten bits per detection are kept.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

#: IoU thresholds for a match, and recall values at which the precision is sampled.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def match(
    iou: Float[np.ndarray, "D T"], score: Float[np.ndarray, " D"]
) -> Bool[np.ndarray, "D 10"]:
    """Match detected masks with true masks at each of `THRESHOLDS`, in order of their scores.

    Args:
        iou: IoU of D detected masks with T true masks of the same image and category.
        score: score of each detected mask.

    Returns:
        Whether each detected mask is matched at each threshold.
    """
    found = np.zeros((len(score), len(THRESHOLDS)), bool)
    free = np.ones((len(THRESHOLDS), iou.shape[1]), bool)
    places = np.arange(len(THRESHOLDS))
    for d in np.argsort(-score, kind="stable"):
        if not iou.shape[1]:
            break
        left = np.where(free, iou[d], -1.0)
        best = iou.shape[1] - 1 - left[:, ::-1].argmax(axis=1)  # the last of equal ones, as COCO
        found[d] = left[places, best] >= np.minimum(THRESHOLDS, 1 - 1e-10)
        free[places[found[d]], best[found[d]]] = False
    return found


def average_precision(
    score: Float[np.ndarray, " D"], matched: Bool[np.ndarray, "D 10"], n_true: int
) -> Float[np.ndarray, " 10"]:
    """Compute the AP of one category at each of `THRESHOLDS`; NaN if there are no true masks.

    Args:
        score: score of each of D detected masks, in the order of the images.
        matched: results of `match` for these masks.
        n_true: number of true masks.
    """
    if not n_true:
        return np.full(len(THRESHOLDS), np.nan)
    right = matched[np.argsort(-score, kind="stable")]
    hits = right.cumsum(axis=0)
    precision = hits / np.arange(1, len(right) + 1)[:, None]
    # The highest precision at this recall or above.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    found = np.zeros(len(THRESHOLDS))
    for t, recall in enumerate((hits / n_true).T):
        at = np.searchsorted(recall, RECALLS, side="left")
        reached = at[at < len(right)]
        found[t] = precision[reached, t].sum() / len(RECALLS)
    return found
