"""How many clusters? What different K make of the same features, as figures to choose by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

from alps.assign.cluster import Cluster
from alps.assign.rows import Rows
from alps.metrics.clustering import agreement, contingency

#: Masks on which the figures are computed; distances between all pairs take 100 MB.
SAMPLE = 5000


@dataclass(frozen=True, slots=True)
class Choice:
    """What one K is worth; means over the seeds. NaN where a figure is not defined."""

    k: int
    inertia: float  # mean squared distance to the centroid; look for the elbow
    silhouette: float  # [-1, 1], larger is better (Rousseeuw 1987)
    stability: float  # ARI between the labels of two seeds, mean over all pairs of seeds


def compare_k(
    make: Callable[[int, int], Cluster],
    blocks: Sequence[Float[np.ndarray, "_ C"]],
    areas: Sequence[Int64[np.ndarray, " _"]],
    *,
    ks: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
) -> Iterator[Choice]:
    """Fit every K with every seed, and judge them all on one sample of the masks.

    Args:
        make: the assigner of a K and a seed.
        blocks: features of all shards.
        areas: pixels of the same masks.
        ks: the candidates.
        seeds: two or more, else the stability is NaN.

    Raises:
        TooFewMasks: there are fewer masks than the largest K.
    """
    rows = Rows(blocks)
    n = min(len(rows), SAMPLE)
    sample = rows.take(np.sort(np.random.default_rng(0).choice(len(rows), n, replace=False)))
    for k in ks:
        labels, inertia, compact = [], [], []
        for seed in seeds:
            cluster = make(k, seed)
            clusters = cluster.fit(blocks, areas)
            category_id, distance = cluster.assign(sample, clusters)
            kept = category_id >= 0
            labels.append(np.where(kept, category_id, cluster.num_classes))
            inertia.append(float(np.square(distance, dtype=np.float64).mean()))
            compact.append(silhouette(cluster.embed(sample[kept], clusters), category_id[kept]))
        pairs = [_agree(a, b) for a, b in combinations(labels, 2)]
        yield Choice(
            k=k,
            inertia=float(np.mean(inertia)),
            silhouette=float(np.mean(compact)),
            stability=float(np.mean(pairs)) if pairs else float("nan"),
        )


def silhouette(rows: Float32[np.ndarray, "n D"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean over the rows of (b - a) / max(a, b); 0 for a row alone in its cluster.

    a is the mean distance to the other rows of its cluster, b that to the rows of the nearest other
    one (Rousseeuw 1987, Journal of Computational and Applied Mathematics). NaN for one cluster.
    """
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return float("nan")
    rows = rows.astype(np.float64) - rows.mean(axis=0)
    norms = np.einsum("nc,nc->n", rows, rows)
    member = np.eye(len(counts))[labels]
    own = np.arange(len(rows)), labels
    squared = np.maximum(norms + norms[:, None] - 2 * rows @ rows.T, 0)
    np.fill_diagonal(squared, 0)
    sums = np.sqrt(squared) @ member
    a = sums[own] / np.maximum(counts[labels] - 1, 1)
    means = sums / counts
    means[own] = np.inf
    b = means.min(axis=1)
    wide = np.maximum(a, b)
    score = np.where((counts[labels] > 1) & (wide > 0), (b - a) / np.where(wide > 0, wide, 1), 0)
    return float(score.mean())


def _agree(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    clusters, classes = int(a.max()) + 1, int(b.max()) + 1
    return agreement(contingency(a, b, clusters, classes, unlabelled=-1, ignore_index=-1)).ari
