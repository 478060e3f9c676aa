"""Scores of clusters against classes, from one contingency table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int64, Integer
from scipy.optimize import linear_sum_assignment

from alps.metrics.segmentation import Scores


@dataclass(frozen=True, slots=True, eq=False)
class Contingency:
    """Number of pixels by cluster and class; the tables of several images can be added."""

    counts: Int64[np.ndarray, "K G"]  # clusters, classes
    unlabelled: Int64[np.ndarray, " G"]  # pixels with a class but without a cluster

    def __add__(self, other: Contingency) -> Contingency:
        return Contingency(self.counts + other.counts, self.unlabelled + other.unlabelled)

    def covered(self) -> Contingency:
        """Return the table without unlabelled pixels, for scores over covered pixels."""
        return Contingency(self.counts, np.zeros_like(self.unlabelled))

    def group(self, groups: Sequence[int]) -> Contingency:
        """Merge classes.

        Args:
            groups: the merged class of each class. Potsdam-3 (road and car, building and clutter,
                vegetation and tree) is ``(0, 1, 2, 2, 0, 1)``.

        Returns:
            The table with the same clusters and the merged classes.
        """
        membership = np.eye(max(groups) + 1, dtype=np.int64)[list(groups)]
        return Contingency(self.counts @ membership, self.unlabelled @ membership)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of clusters and classes, independent of the order of clusters.

    Purity, homogeneity, completeness and NMI lie in [0, 1]. ARI is 1 for equal partitions, 0 on
    average for random ones, and may be negative. All are NaN if there are no pixels.
    """

    purity: float
    homogeneity: float
    completeness: float
    nmi: float
    ari: float


def contingency(
    labels: Integer[np.ndarray, "*pixels"],
    target: Integer[np.ndarray, "*pixels"],
    num_clusters: int,
    num_classes: int,
    *,
    unlabelled: int,
    ignore_index: int,
) -> Contingency:
    """Count pixels, or masks, by cluster and class.

    Args:
        labels: cluster of each pixel or mask in [0, K), or ``unlabelled``.
        target: class of each pixel or mask in [0, G), or ``ignore_index``, which is not counted.
        num_clusters: K.
        num_classes: G.
        unlabelled: value of ``labels`` for pixels without a cluster.
        ignore_index: value of ``target`` for pixels without a class.

    Returns:
        The counts, and the number of pixels with a class but without a cluster.

    Raises:
        ValueError: a cluster is not in [0, K) or a class not in [0, G).
    """
    scored = target != ignore_index
    cluster, classes = labels[scored].astype(np.int64), target[scored].astype(np.int64)
    uncovered = cluster == unlabelled
    for name, values, bound in (
        ("labels contain clusters", cluster[~uncovered], num_clusters),
        ("target contains classes", classes, num_classes),
    ):
        if values.size and not 0 <= values.min() <= values.max() < bound:
            raise ValueError(
                f"{name} from {values.min()} to {values.max()}, expected 0 to {bound - 1}"
            )
    cluster[uncovered] = num_clusters  # counted in the last row
    cells = np.bincount(cluster * num_classes + classes, minlength=(num_clusters + 1) * num_classes)
    rows = cells.reshape(num_clusters + 1, num_classes)
    return Contingency(rows[:-1], rows[-1])


def majority(table: Contingency) -> Int64[np.ndarray, " K"]:
    """Map each cluster to its most frequent class; several clusters may get the same class.

    An empty cluster gets the most frequent class of all clusters.

    Returns:
        The class of each cluster.
    """
    mapping: np.ndarray = table.counts.argmax(axis=1)
    mapping[~table.counts.any(axis=1)] = table.counts.sum(axis=0).argmax()
    return mapping


def hungarian(table: Contingency) -> Int64[np.ndarray, " K"]:
    """Map clusters to classes one to one so that most pixels match (Kuhn 1955); -1: no class."""
    clusters, classes = linear_sum_assignment(table.counts, maximize=True)
    mapping = np.full(len(table.counts), -1, dtype=np.int64)
    mapping[clusters] = classes
    return mapping


def scores(table: Contingency, mapping: Int[np.ndarray, " K"]) -> Scores:
    """Compute the scores of clusters as a prediction after mapping each to a class.

    Unlabelled pixels count as wrong; pass ``table.covered()`` to exclude them. If the mapping is
    computed from images that are not scored, a large number of clusters has no advantage.

    Args:
        table: counts of K clusters and G classes.
        mapping: class in [0, G) of each cluster; with -1 all pixels of the cluster are wrong.

    Returns:
        The scores over the G classes.
    """
    counts = table.counts
    is_mapped = mapping >= 0
    predicted = np.zeros((counts.shape[1], counts.shape[1]), dtype=np.int64)  # rows: prediction
    np.add.at(predicted, mapping[is_mapped], counts[is_mapped])
    hits, predicted_pixels = predicted.diagonal(), predicted.sum(axis=1)
    reference = counts.sum(axis=0) + table.unlabelled
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        iou = hits / (reference + predicted_pixels - hits)
        f1 = 2 * hits / (reference + predicted_pixels)
        accuracy = hits / reference
        overall = hits.sum() / reference.sum()
    return Scores(
        iou=tuple(iou.tolist()),
        f1=tuple(f1.tolist()),
        accuracy=tuple(accuracy.tolist()),
        mIoU=_nanmean(iou),
        mF1=_nanmean(f1),
        OA=float(overall),
    )


def agreement(table: Contingency) -> Agreement:
    """Compute measures that need no mapping of clusters to classes, over the labelled pixels.

    Homogeneity, completeness and their harmonic mean, the V-measure, are from Rosenberg &
    Hirschberg (EMNLP 2007). NMI is normalised by the arithmetic mean of the entropies, which makes
    it equal to the V-measure. ARI is from Hubert & Arabie (Journal of Classification 1985).

    Returns:
        The measures; all are NaN if there are no labelled pixels.
    """
    counts = table.counts
    total = int(counts.sum())
    if total == 0:
        return Agreement(*[math.nan] * 5)
    clusters, classes = counts.sum(axis=1), counts.sum(axis=0)
    in_cluster, in_class = _entropy(clusters), _entropy(classes)
    information = max(0.0, in_cluster + in_class - _entropy(counts.ravel()))
    homogeneity = information / in_class if in_class else 1.0
    completeness = information / in_cluster if in_cluster else 1.0
    entropy = in_cluster + in_class
    return Agreement(
        purity=int(counts.max(axis=1).sum()) / total,
        homogeneity=homogeneity,
        completeness=completeness,
        nmi=2 * information / entropy if entropy else 1.0,
        ari=_adjusted_rand(_pairs(counts), _pairs(clusters), _pairs(classes), total),
    )


def _entropy(counts: Int64[np.ndarray, " n"]) -> float:
    fraction = counts[counts > 0] / counts.sum()
    return float(-(fraction * np.log(fraction)).sum())


def _pairs(counts: Int64[np.ndarray, "*n"]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _adjusted_rand(joint: int, clusters: int, classes: int, total: int) -> float:
    """Return the ARI from the numbers of pixel pairs with equal labels.

    Args:
        joint: pairs in the same cluster and the same class.
        clusters: pairs in the same cluster.
        classes: pairs in the same class.
        total: number of pixels.

    Returns:
        The adjusted Rand index.
    """
    if joint == clusters == classes:  # equal partitions, including the trivial ones
        return 1.0
    expected = clusters * classes / (total * (total - 1) // 2)
    return (joint - expected) / ((clusters + classes) / 2 - expected)


def _nanmean(values: Float[np.ndarray, " n"]) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan
