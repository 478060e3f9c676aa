"""Online k-means in bounded memory, over features that stay on disk.

Greedy k-means++ seeds the centroids on a uniform sample; one epoch of mini-batches and Lloyd's
iterations, which stream the data, follow. Memory depends on K and the batch size, not on the number
of rows.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from alps.assign.projection import unit
from alps.assign.rows import Rows, over_parts
from alps.assign.search import search
from alps.errors import TooFewMasks
from alps.protocols import Mapper
from alps.structures.records import Clusters

#: Rows of the sample that seeds the centroids: number per cluster, and minimum.
SAMPLE_PER_CLUSTER, SAMPLE_MIN = 64, 8192
#: Points drawn as candidates for each new centroid. With scikit-learn's 2 + ln K the inertia ends
#: up to 1.5 % higher and varies more with the seed (46 clusters, 20,000 rows).
TRIES = 32
#: Relative improvement of the inertia at or below which Lloyd's iterations stop.
TOLERANCE = 1e-5


class Pass(NamedTuple):
    """Sums over one pass through all rows; the sums of disjoint parts of the rows add up."""

    sums: Float64[np.ndarray, "K D"]  # of the weighted rows nearest to each centroid
    mass: Float64[np.ndarray, " K"]  # of their weights
    inertia: float  # weighted squared distances to the nearest centroid
    counts: Int64[np.ndarray, " K"]  # number of those rows


def fit_kmeans(
    rows: Rows,
    k: int,
    *,
    niter: int,
    batch_size: int,
    seed: int,
    restarts: int = 1,
    spherical: bool = False,
    mapper: Mapper = map,
) -> Clusters:
    """Cluster all rows; the result depends on the rows, settings and seed only, byte for byte.

    Args:
        rows: features, usually memory-mapped; a block may have no rows.
        k: number of clusters, K.
        niter: largest number of passes that move the centroids: the first in mini-batches (Sculley
            2010, "Web-scale k-means clustering"), the others Lloyd's. One more pass only counts.
        batch_size: rows in memory at once, and rows of a mini-batch.
        seed: of the sample, the seeding and the mini-batches.
        restarts: number of runs; the one with the lowest inertia is kept.
        spherical: keep centroids at length 1, for rows of length 1 (Dhillon & Modha 2001,
            "Concept decompositions for large sparse text data using clustering").
        mapper: maps a function over the parts of Lloyd's passes; seeding and mini-batches run in
            this process.

    Returns:
        The centroids and the number of rows of each cluster, largest first.

    Raises:
        TooFewMasks: there are fewer rows than clusters.
        AlpsError: a feature is NaN or infinite.
    """
    if len(rows) < k:
        raise TooFewMasks(
            f"{len(rows)} masks cannot make {k} clusters: lower assign.k to {len(rows)} at most, "
            "or label more images"
        )
    rng = np.random.default_rng(seed)
    passes = Passes(rows, batch_size, mapper)
    best, lowest = None, np.inf
    for _ in range(restarts):
        centroids, last = _fit_once(rows, k, niter, batch_size, spherical, rng, passes)
        if best is None or last.inertia < lowest:
            order = np.argsort(-last.counts, kind="stable")
            best, lowest = Clusters(centroids[order], last.counts[order]), last.inertia
    assert best is not None
    return best


def _fit_once(
    rows: Rows,
    k: int,
    niter: int,
    batch_size: int,
    spherical: bool,
    rng: np.random.Generator,
    passes: Passes,
) -> tuple[Float32[np.ndarray, "K D"], Pass]:
    """Return converged centroids of one seeding, and the pass that counted their rows."""
    # A uniform sample without reading the stream: unlike for a reservoir, its length is known.
    n = min(len(rows), max(SAMPLE_PER_CLUSTER * k, SAMPLE_MIN))
    index = np.sort(rng.choice(len(rows), n, replace=False))
    sample, weights = rows.take(index), rows.weights(index)
    first = rng.choice(n, 1, p=weights / weights.sum(dtype=np.float64))
    centroids = sample[np.append(first, plus_plus(sample, sample[first], k - 1, rng, weights))]

    means, mass = np.zeros(centroids.shape), np.zeros(k)
    for index in rows.batches(batch_size, rng):
        batch = rows.take(index)
        sums, new = sum_rows(batch, rows.weights(index), nearest(batch, centroids)[0], k)
        mass += new
        means += (sums - new[:, None] * means) / np.where(mass > 0, mass, 1)[:, None]
        centroids = _move(centroids, means, mass, spherical)

    last = np.inf
    for left in reversed(range(niter)):
        seen = passes(centroids)
        empty = seen.counts == 0
        settled = last - seen.inertia <= TOLERANCE * seen.inertia and not empty.any()
        if settled or not left:
            break
        last = seen.inertia
        means = seen.sums / np.where(empty, 1, seen.mass)[:, None]
        centroids = _move(centroids, means, seen.mass, spherical)
        if empty.any():
            new = plus_plus(sample, centroids[~empty], int(empty.sum()), rng, weights)
            centroids[empty] = sample[new]
    return centroids, seen


def _move(
    centroids: Float32[np.ndarray, "K D"],
    means: Float64[np.ndarray, "K D"],
    mass: Float64[np.ndarray, " K"],
    spherical: bool,
) -> Float32[np.ndarray, "K D"]:
    """Return centroids moved to the means; a centroid without rows stays in place."""
    moved = np.where(mass[:, None] > 0, means, centroids).astype(np.float32)
    return unit(moved) if spherical else moved


def plus_plus(
    points: Float32[np.ndarray, "n D"],
    centroids: Float32[np.ndarray, "K D"],
    k: int,
    rng: np.random.Generator,
    weights: Float32[np.ndarray, " n"],
) -> Int64[np.ndarray, " k"]:
    """Choose ``k`` points as further centroids by greedy k-means++ (Arthur & Vassilvitskii 2007).

    Of a few points drawn with a probability proportional to the weighted squared distance from the
    nearest centroid, take the one that lowers the sum of these distances most.

    Args:
        points: the candidates.
        centroids: those chosen before.
        k: number of points to choose.
        rng: source of random numbers.
        weights: of the points.

    Returns:
        Indices of the chosen points; an index repeats if all points lie on centroids already.
    """
    closest = nearest(points, centroids)[1].astype(np.float64)
    points = points - points.mean(axis=0)  # avoids loss of digits, as in `nearest`
    norms = np.einsum("nc,nc->n", points, points)
    chosen = np.zeros(k, np.int64)
    for i in range(k):
        mass = np.cumsum(closest * weights)
        drawn = np.searchsorted(mass, rng.random(TRIES) * mass[-1], side="right")
        drawn = np.minimum(drawn, len(points) - 1)
        apart = norms + norms[drawn, None] - 2 * points[drawn] @ points.T
        apart = np.minimum(closest, np.maximum(apart, 0))
        best = (apart * weights).sum(axis=1).argmin()
        chosen[i], closest = drawn[best], apart[best]
    return chosen


def nearest(
    rows: Float32[np.ndarray, "n D"], centroids: Float32[np.ndarray, "K D"]
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Find the nearest centroid of each row.

    Returns:
        The index of the centroid, and the squared Euclidean distance to it.
    """
    # faiss expands |x - c|², which loses digits when all rows are far from the origin.
    middle = centroids.mean(axis=0)
    index = search(rows - middle, centroids - middle)
    apart = rows - centroids[index]
    return index, np.einsum("nc,nc->n", apart, apart)


def sum_rows(
    rows: Float32[np.ndarray, "n D"],
    weights: Float32[np.ndarray, " n"],
    category_id: Int64[np.ndarray, " n"],
    k: int,
) -> tuple[Float64[np.ndarray, "K D"], Float64[np.ndarray, " K"]]:
    """Add up the rows of each class.

    Args:
        rows: to add up.
        weights: of the rows.
        category_id: class of each row, below ``k``.
        k: number of classes, K.

    Returns:
        The sum of the weighted rows of each class, and the sum of their weights.
    """
    order = np.argsort(category_id, kind="stable")
    rows = rows[order] * weights[order, None]
    sums = np.zeros((k, rows.shape[1]))
    start = 0
    for i, n in enumerate(np.bincount(category_id, minlength=k)):
        rows[start : start + n].sum(axis=0, dtype=np.float64, out=sums[i])
        start += n
    return sums, np.bincount(category_id, weights, k)


class Passes:
    """Passes through all rows, part by part.

    For float16 features of weight 1 the sums are exact as long as they stay below 2²⁹, so neither
    the order of the rows nor the parts affect the result. Other sums are added in the order of the
    parts, whichever process computes them.

    Args:
        rows: of all parts.
        batch_size: rows in memory at once.
        mapper: maps a function over the parts.
    """

    def __init__(self, rows: Rows, batch_size: int, mapper: Mapper = map) -> None:
        self._parts = [(part, rows.weights(slice(*part))) for part in rows.parts(batch_size)]
        # One object, which workers keep; the weights are sent to them with each part.
        self._look = partial(_look, rows.unweighted(), batch_size)
        self._mapper = mapper

    def __call__(self, centroids: Float32[np.ndarray, "K D"]) -> Pass:
        """Return the sums of one pass with these centroids."""
        k = len(centroids)
        seen = Pass(np.zeros(centroids.shape), np.zeros(k), 0.0, np.zeros(k, np.int64))
        items = [(centroids, *part) for part in self._parts]
        for part in over_parts(self._mapper, self._look, items):
            seen = Pass(*(a + b for a, b in zip(seen, part, strict=True)))
        return seen


def lloyd_sums(rows: Rows, centroids: Float32[np.ndarray, "K D"], batch_size: int) -> Pass:
    """Return the sums of one pass over all rows.

    Args:
        rows: to add up.
        centroids: to which the nearest rows are added.
        batch_size: rows in memory at once.
    """
    return Passes(rows, batch_size)(centroids)


def _look(
    rows: Rows,
    batch_size: int,
    item: tuple[Float32[np.ndarray, "K D"], tuple[int, int], Float32[np.ndarray, " n"]],
) -> Pass:
    """Return the sums over one part: centroids, (start, stop) of the part, weights of its rows."""
    centroids, part, weights_of_part = item
    k = len(centroids)
    sums, mass, inertia, counts = np.zeros(centroids.shape), np.zeros(k), 0.0, np.zeros(k, np.int64)
    for index in rows.chunks(batch_size, *part):
        chunk, weights = rows.take(index), weights_of_part[index - part[0]]
        category_id, distance = nearest(chunk, centroids)
        added, new = sum_rows(chunk, weights, category_id, k)
        sums += added
        mass += new
        inertia += float((distance * weights).sum(dtype=np.float64))
        counts += np.bincount(category_id, minlength=k)
    return Pass(sums, mass, inertia, counts)
