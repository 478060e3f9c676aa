"""How many clusters? What different K make of the same features, as figures to choose by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

from alps.assign.cluster import Cluster
from alps.assign.rows import Rows
from alps.errors import ConfigError
from alps.metrics.clustering import agreement, contingency
from alps.types import Clusters

#: Masks on which the figures are computed; distances between all pairs take 100 MB.
SAMPLE = 5000
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Choice:
    """What one K is worth; means over the seeds. NaN where a figure is not defined."""

    k: int
    inertia: float  # mean squared distance to the centre of the class; look for the elbow
    silhouette: float  # [-1, 1], larger is better (Rousseeuw 1987)
    stability: float  # ARI between the labels of two seeds, mean over all pairs of seeds


def check_ks(assigner: object, ks: object) -> None:
    """Refuse numbers of classes that cannot be compared, before anything slow starts.

    Raises:
        ConfigError: ``assigner`` is no `Cluster`, or ``ks`` are no numbers of classes it can make.
    """
    if not isinstance(assigner, Cluster):
        raise ConfigError(
            f"choose_k compares clusterings, and {type(assigner).__name__} makes none; use "
            "assign=cluster or leave choose_k out"
        )
    if not (isinstance(ks, list) and ks and all(type(k) is int and k > 1 for k in ks)):
        raise ConfigError(
            f"choose_k={ks}: expected whole numbers of 2 or more in brackets, as [8,16,32,64]"
        )
    if assigner.merge is not None and max(ks) > assigner.k:
        raise ConfigError(
            f"choose_k asks for {max(ks)} classes, but assign.k makes {assigner.k} clusters to "
            "merge: raise assign.k"
        )


def with_classes(cluster: Cluster, k: int, seed: int) -> Cluster:
    """The same settings with ``k`` classes: as many clusters, or as many branches of the tree."""
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
            category_id, _ = cluster.assign(sample, clusters)
            kept = category_id >= 0
            labels.append(np.where(kept, category_id, cluster.num_classes))
            own = cluster.embed(sample[kept], clusters)
            away = own - _centers(clusters)[category_id[kept]]
            inertia.append(float(np.square(away, dtype=np.float64).sum(axis=1).mean()))
            compact.append(silhouette(own, category_id[kept]))
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


def favoured(choices: Sequence[Choice]) -> dict[str, int | None]:
    """The K that each figure speaks for; None where it speaks for none."""
    return {
        "inertia": elbow(choices),
        "silhouette": _largest(choices, lambda choice: choice.silhouette),
        "stability": _largest(choices, lambda choice: choice.stability),
    }


def elbow(choices: Sequence[Choice]) -> int | None:
    """The K whose inertia lies farthest below the chord from the first K to the last.

    That is where more classes stop paying (Kneedle: Satopää et al. 2011, Finding a "Kneedle" in a
    Haystack, section III), here over log K: over K itself every curve has an elbow, and where it is
    depends on the largest K tried. None where no point lies below the chord.
    """
    k = np.log([choice.k for choice in choices])
    inertia = np.array([choice.inertia for choice in choices])
    if len(k) < 3 or inertia[0] <= inertia[-1]:
        return None
    below = 1 - (k - k[0]) / (k[-1] - k[0]) - (inertia - inertia[-1]) / (inertia[0] - inertia[-1])
    best = int(below.argmax())
    return choices[best].k if below[best] > 0 else None


def _largest(choices: Sequence[Choice], figure: Callable[[Choice], float]) -> int | None:
    known = [choice for choice in choices if not np.isnan(figure(choice))]
    return max(known, key=figure).k if known else None


def _centers(clusters: Clusters) -> Float32[np.ndarray, "K D"]:
    """The mean of each class; of a merged one that of its clusters' centroids by their counts."""
    if clusters.category_id is None:
        return clusters.centroids
    member = np.eye(clusters.category_id.max() + 1, dtype=np.float32)[clusters.category_id]
    weight = (member * clusters.counts[:, None]).astype(np.float32)
    centers: np.ndarray = weight.T @ clusters.centroids / weight.sum(axis=0)[:, None]
    return centers


def _agree(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> float:
    clusters, classes = int(a.max()) + 1, int(b.max()) + 1
    return agreement(contingency(a, b, clusters, classes, unlabelled=-1, ignore_index=-1)).ari
