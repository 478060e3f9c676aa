"""Comparison of numbers of clusters by quality scores on the same features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

from alps.assign.cluster import Cluster
from alps.assign.rows import Rows
from alps.metrics.clustering import agreement, contingency
from alps.structures.records import Clusters

#: Number of masks on which scores are computed; the distances of all pairs take 200 MB.
SAMPLE = 5000
SEEDS = (0, 1, 2)
#: Minimum of the inertia as a fraction of the first K's; the inertia is 0 if each mask is a class.
MIN_INERTIA = 1e-12
#: Minimum depth of a clear elbow below the chord (in [0, 1]), and minimum silhouette at the elbow:
#: below 0.25 there is "no substantial structure" (Kaufman & Rousseeuw 1990, table 4).
CLEAR_DEPTH, CLEAR_SILHOUETTE = 0.1, 0.25


@dataclass(frozen=True, slots=True)
class Choice:
    """Scores of one K, averaged over the seeds; undefined scores are NaN."""

    k: int
    inertia: float  # mean squared distance to the mean of the class; see `elbow`
    silhouette: float  # [-1, 1], larger is better (Rousseeuw 1987)
    stability: float  # ARI between the labels of two seeds, averaged over all pairs of seeds


def with_classes(cluster: Cluster, k: int, seed: int) -> Cluster:
    """Return a copy of an assigner with ``k`` classes.

    Args:
        cluster: the assigner.
        k: number of clusters, or of merged clusters if ``cluster`` merges them.
        seed: random seed of the copy.
    """
    number = {"k": k} if cluster.merge is None else {"merge": k}
    return Cluster(**{**vars(cluster), **number, "seed": seed})


def compare_k(
    make: Callable[[int, int], Cluster],
    blocks: Sequence[Float[np.ndarray, "_ C"]],
    areas: Sequence[Int64[np.ndarray, " _"]],
    *,
    ks: Sequence[int],
    seeds: Sequence[int] = SEEDS,
) -> Iterator[Choice]:
    """Fit each K with each seed, and evaluate all fits on the same sample of masks.

    Args:
        make: returns the assigner for a K and a seed.
        blocks: features of all masks, one array per shard.
        areas: areas of the same masks, in pixels.
        ks: the numbers of classes to compare.
        seeds: random seeds; with fewer than two, the stability is NaN.

    Yields:
        The scores of each K.

    Raises:
        TooFewMasks: there are fewer masks than the largest K.
    """
    rows = Rows(blocks)
    n = min(len(rows), SAMPLE)
    sample = rows.take(np.sort(np.random.default_rng(0).choice(len(rows), n, replace=False)))
    for k in ks:
        labels, inertia, silhouettes = [], [], []
        for seed in seeds:
            cluster = make(k, seed)
            clusters = cluster.fit(blocks, areas)
            category_id, _ = cluster.assign(sample, clusters)
            assigned = category_id >= 0
            labels.append(np.where(assigned, category_id, cluster.num_classes))
            embedded = cluster.embed(sample[assigned], clusters)
            offset = embedded - _centers(clusters)[category_id[assigned]]
            inertia.append(float(np.square(offset, dtype=np.float64).sum(axis=1).mean()))
            silhouettes.append(silhouette(embedded, category_id[assigned]))
        pairs = [_agree(a, b) for a, b in combinations(labels, 2)]
        yield Choice(
            k=k,
            inertia=float(np.mean(inertia)),
            silhouette=float(np.mean(silhouettes)),
            stability=float(np.mean(pairs)) if pairs else float("nan"),
        )


def silhouette(rows: Float32[np.ndarray, "n D"], labels: Int[np.ndarray, " n"]) -> float:
    """Return the silhouette: the mean over the rows of (b - a) / max(a, b).

    For each row, a is the mean distance to the rest of its cluster, and b the mean distance to the
    rows of the nearest different cluster (Rousseeuw 1987, Journal of Computational and Applied
    Mathematics). The only row of a cluster counts 0; with a single cluster the result is NaN.
    """
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return float("nan")
    rows = rows.astype(np.float64) - rows.mean(axis=0)
    norms = np.einsum("nc,nc->n", rows, rows)
    member = np.eye(len(counts))[labels]
    own_cluster = np.arange(len(rows)), labels
    squared = np.maximum(norms + norms[:, None] - 2 * rows @ rows.T, 0)
    np.fill_diagonal(squared, 0)
    sums = np.sqrt(squared) @ member
    a = sums[own_cluster] / np.maximum(counts[labels] - 1, 1)
    means = sums / counts
    means[own_cluster] = np.inf
    b = means.min(axis=1)
    larger = np.maximum(a, b)
    score = np.where(
        (counts[labels] > 1) & (larger > 0), (b - a) / np.where(larger > 0, larger, 1), 0
    )
    return float(score.mean())


def favoured(choices: Sequence[Choice]) -> dict[str, int | None]:
    """Return the best K by each score; None if a score has no clear best K."""
    return {
        "inertia": elbow(choices),
        "silhouette": _largest(choices, lambda choice: choice.silhouette),
        "stability": _largest(choices, lambda choice: choice.stability),
    }


def elbow(choices: Sequence[Choice]) -> int | None:
    """Return the K at the elbow of the inertia, or None if no elbow is clear.

    The elbow is where the inertia lies farthest below the chord from the first K to the last
    (Kneedle: Satopää et al. 2011, Finding a "Kneedle" in a Haystack, section III). Both axes are
    logarithmic, because the inertia of rows without groups is a power of K, which is then a
    straight line. An elbow is clear if its depth is at least `CLEAR_DEPTH` and the
    silhouette at least `CLEAR_SILHOUETTE`.
    """
    inertia = np.array([choice.inertia for choice in choices])
    if len(choices) < 3 or not inertia[0] > inertia[-1]:
        return None
    x, y = (
        np.log([choice.k for choice in choices]),
        np.log(np.maximum(inertia, MIN_INERTIA * inertia[0])),
    )
    depth = (y[0] - y) / (y[0] - y[-1]) - (x - x[0]) / (x[-1] - x[0])
    best = choices[int(depth.argmax())]
    return best.k if depth.max() >= CLEAR_DEPTH and best.silhouette >= CLEAR_SILHOUETTE else None


def explain_choice(choices: Sequence[Choice]) -> str:
    """Return one line for the terminal that names the best K by each score."""
    best = favoured(choices)
    parts = ["no clear elbow" if best["inertia"] is None else f"elbow at {best['inertia']}"]
    for figure in ("silhouette", "stability"):
        values = {choice.k: getattr(choice, figure) for choice in choices}
        if (k := best[figure]) is not None:
            parts.append(f"largest {figure} {values[k]:.3g} at {k}")
    return ", ".join(parts)


def _largest(choices: Sequence[Choice], figure: Callable[[Choice], float]) -> int | None:
    """Return the K with the largest score, ignoring NaN; None if all are NaN."""
    defined = [choice for choice in choices if not np.isnan(figure(choice))]
    return max(defined, key=figure).k if defined else None


def _centers(clusters: Clusters) -> Float32[np.ndarray, "K D"]:
    """Return the mean of each class: the mean of its centroids, weighted by counts."""
    if clusters.category_id is None:
        return clusters.centroids
    member = np.eye(clusters.category_id.max() + 1, dtype=np.float32)[clusters.category_id]
    weight = (member * clusters.counts[:, None]).astype(np.float32)
    centers: np.ndarray = weight.T @ clusters.centroids / weight.sum(axis=0)[:, None]
    return centers


def _agree(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    """Return the adjusted Rand index between two labellings of the same rows."""
    clusters, classes = int(a.max()) + 1, int(b.max()) + 1
    return agreement(contingency(a, b, clusters, classes, unlabelled=-1, ignore_index=-1)).ari
