"""COCO's average precision of masks (arXiv 1405.0312), computed image by image.

pycocotools needs all masks in memory; this module needs a score and ten booleans per detection.
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
    """Match detected with ground-truth masks at each of `THRESHOLDS`, in order of their scores.

    Args:
        iou: IoU of D detected masks with T ground-truth masks of the same image and category.
        score: score of each detected mask.

    Returns:
        Whether each detected mask is matched at each threshold.
    """
    matched = np.zeros((len(score), len(THRESHOLDS)), bool)
    unmatched = np.ones((len(THRESHOLDS), iou.shape[1]), bool)
    levels = np.arange(len(THRESHOLDS))
    for d in np.argsort(-score, kind="stable"):
        if not iou.shape[1]:
            break
        available = np.where(unmatched, iou[d], -1.0)
        # The last of equal values, as in COCO.
        best = iou.shape[1] - 1 - available[:, ::-1].argmax(axis=1)
        matched[d] = available[levels, best] >= np.minimum(THRESHOLDS, 1 - 1e-10)
        unmatched[levels[matched[d]], best[matched[d]]] = False
    return matched


def average_precision(
    score: Float[np.ndarray, " D"], matched: Bool[np.ndarray, "D 10"], n_true: int
) -> Float[np.ndarray, " 10"]:
    """Compute the AP of one category at each of `THRESHOLDS`; NaN without ground truth.

    Args:
        score: score of each of D detected masks, in the order of the images.
        matched: results of `match` for these masks.
        n_true: number of ground-truth masks.

    Returns:
        The AP at each threshold.
    """
    if not n_true:
        return np.full(len(THRESHOLDS), np.nan)
    sorted_matches = matched[np.argsort(-score, kind="stable")]
    hits = sorted_matches.cumsum(axis=0)
    precision = hits / np.arange(1, len(sorted_matches) + 1)[:, None]
    # The highest precision at this or any higher recall.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    ap = np.zeros(len(THRESHOLDS))
    for t, recall in enumerate((hits / n_true).T):
        ranks = np.searchsorted(recall, RECALLS, side="left")
        reached = ranks[ranks < len(sorted_matches)]
        ap[t] = precision[reached, t].sum() / len(RECALLS)
    return ap
