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
from alps.structures.records import Clusters

#: Masks on which the figures are computed; distances between all pairs take 100 MB.
SAMPLE = 5000
SEEDS = (0, 1, 2)
SMALL = 1e-12  # of the largest inertia: where each mask is a class of its own, it is 0
#: An elbow is clear if the curve lies this far below its chord, of 1, and the silhouette there is
#: this large: below 0.25 there is "no substantial structure" (Kaufman & Rousseeuw 1990, table 4).
CLEAR_DEPTH, CLEAR_SILHOUETTE = 0.1, 0.25


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
    """The K after which more classes stop paying, None where no elbow is clear.

    That is where the inertia lies farthest below the chord from the first K to the last (Kneedle:
    Satopää et al. 2011, Finding a "Kneedle" in a Haystack, section III), here with both axes
    logarithmic: of rows without groups the inertia is a power of K, a straight line there, whatever
    K are compared. It is clear if it is `CLEAR_DEPTH` deep and the silhouette at it reaches
    `CLEAR_SILHOUETTE`.
    """
    inertia = np.array([choice.inertia for choice in choices])
    if len(choices) < 3 or not inertia[0] > inertia[-1]:
        return None
    x, y = np.log([choice.k for choice in choices]), np.log(np.maximum(inertia, SMALL * inertia[0]))
    below = (y[0] - y) / (y[0] - y[-1]) - (x - x[0]) / (x[-1] - x[0])
    best = choices[int(below.argmax())]
    return best.k if below.max() >= CLEAR_DEPTH and best.silhouette >= CLEAR_SILHOUETTE else None


def explain_choice(choices: Sequence[Choice]) -> str:
    """What the figures say of K, in a line for the terminal."""
    best = favoured(choices)
    says = ["no clear elbow" if best["inertia"] is None else f"elbow at {best['inertia']}"]
    for figure in ("silhouette", "stability"):
        values = {choice.k: getattr(choice, figure) for choice in choices}
        if (k := best[figure]) is not None:
            says.append(f"largest {figure} {values[k]:.3g} at {k}")
    return ", ".join(says)


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
