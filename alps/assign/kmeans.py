"""Online k-means in bounded memory, over features that stay on disk.

Greedy k-means++ on a uniform sample chooses the first centroids. One epoch of mini-batches and
Lloyd's iterations, which read the rows in chunks, update them. Memory depends on K and the batch
size, not on the number of rows.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from alps.assign.projection import unit
from alps.assign.rows import Rows, map_parts
from alps.assign.search import search
from alps.errors import TooFewMasks
from alps.protocols import Mapper
from alps.structures.records import Clusters

#: Number of rows of the sample for k-means++: per cluster, and at least.
SAMPLE_PER_CLUSTER, SAMPLE_MIN = 64, 8192
#: Number of candidates for each new centroid. With scikit-learn's 2 + ln K the final inertia is up
#: to 1.5 % higher and varies more with the seed (46 clusters, 20,000 rows).
TRIES = 32


class Pass(NamedTuple):
    """Sums over all rows, or over a part of them; sums of disjoint parts can be added."""

    sums: Float64[np.ndarray, "K D"]  # sum of the weighted rows nearest to each centroid
    mass: Float64[np.ndarray, " K"]  # sum of the weights of these rows
    inertia: float  # sum of the weighted squared distances to the nearest centroid
    counts: Int64[np.ndarray, " K"]  # number of these rows


def fit_kmeans(
    rows: Rows,
    k: int,
    *,
    niter: int,
    tol: float = 1e-5,
    batch_size: int,
    seed: int,
    restarts: int = 1,
    spherical: bool = False,
    mapper: Mapper = map,
) -> Clusters:
    """Cluster all rows; equal rows, settings and seed give the same bytes.

    Args:
        rows: features in blocks, usually memory-mapped; a block may have no rows.
        k: number of clusters, K.
        niter: maximum number of passes that update the centroids: one in mini-batches (Sculley
            2010, "Web-scale k-means clustering"), then Lloyd's iterations. A last pass counts the
            rows of each cluster.
        tol: Lloyd's iterations stop when one lowers the inertia by this fraction of it or less.
        batch_size: number of rows in a mini-batch, and in memory at a time.
        seed: random seed of the sample, of k-means++ and of the mini-batches.
        restarts: number of runs; the result with the lowest inertia is used.
        spherical: keep centroids at length 1, for rows of length 1 (Dhillon & Modha 2001,
            "Concept decompositions for large sparse text data using clustering").
        mapper: maps a function over the parts of Lloyd's passes; k-means++ and mini-batches run in
            this process.

    Returns:
        The centroids and the number of rows of each cluster, largest first.

    Raises:
        TooFewMasks: there are fewer rows than clusters.
        AlpsError: a feature is NaN or infinite.
    """
    if len(rows) < k:
        raise TooFewMasks(
            f"{len(rows)} masks cannot form {k} clusters: lower assign.k to {len(rows)} at most, "
            "or label more images"
        )
    rng = np.random.default_rng(seed)
    passes = Passes(rows, batch_size, mapper)
    best, lowest = None, np.inf
    for _ in range(restarts):
        centroids, last = _fit_once(rows, k, niter, tol, batch_size, spherical, rng, passes)
        if best is None or last.inertia < lowest:
            order = np.argsort(-last.counts, kind="stable")
            best, lowest = Clusters(centroids[order], last.counts[order]), last.inertia
    assert best is not None
    return best


def _fit_once(
    rows: Rows,
    k: int,
    niter: int,
    tol: float,
    batch_size: int,
    spherical: bool,
    rng: np.random.Generator,
    passes: Passes,
) -> tuple[Float32[np.ndarray, "K D"], Pass]:
    """Run k-means once; return the centroids and the last pass, which counted their rows."""
    # The number of rows is known, so a uniform sample needs no pass over all rows.
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
    for remaining in reversed(range(niter)):
        current = passes(centroids)
        empty = current.counts == 0
        converged = last - current.inertia <= tol * current.inertia and not empty.any()
        if converged or not remaining:
            break
        last = current.inertia
        means = current.sums / np.where(empty, 1, current.mass)[:, None]
        centroids = _move(centroids, means, current.mass, spherical)
        if empty.any():
            new = plus_plus(sample, centroids[~empty], int(empty.sum()), rng, weights)
            centroids[empty] = sample[new]
    return centroids, current


def _move(
    centroids: Float32[np.ndarray, "K D"],
    means: Float64[np.ndarray, "K D"],
    mass: Float64[np.ndarray, " K"],
    spherical: bool,
) -> Float32[np.ndarray, "K D"]:
    """Return the means as new centroids; a centroid without rows does not change."""
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

    For each centroid, draw a few points with probabilities proportional to the weighted squared
    distance from the nearest centroid, and choose the one that lowers the sum of these distances
    most.

    Args:
        points: the candidates.
        centroids: existing centroids.
        k: number of points to choose.
        rng: random number generator.
        weights: weights of the points.

    Returns:
        Indices of the chosen points; an index repeats if all points are equal to centroids.
    """
    closest = nearest(points, centroids)[1].astype(np.float64)
    points = points - points.mean(axis=0)  # to avoid a loss of digits, as in `nearest`
    norms = np.einsum("nc,nc->n", points, points)
    chosen = np.zeros(k, np.int64)
    for i in range(k):
        mass = np.cumsum(closest * weights)
        drawn = np.searchsorted(mass, rng.random(TRIES) * mass[-1], side="right")
        drawn = np.minimum(drawn, len(points) - 1)
        squared = norms + norms[drawn, None] - 2 * points[drawn] @ points.T
        squared = np.minimum(closest, np.maximum(squared, 0))
        best = (squared * weights).sum(axis=1).argmin()
        chosen[i], closest = drawn[best], squared[best]
    return chosen


def nearest(
    rows: Float32[np.ndarray, "n D"], centroids: Float32[np.ndarray, "K D"]
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Find the nearest centroid of each row.

    Returns:
        The index of the centroid, and the squared Euclidean distance to it.
    """
    # faiss expands |x - c|², which loses digits if all rows are far from the origin.
    middle = centroids.mean(axis=0)
    offset = rows - middle
    index = search(offset, centroids - middle)
    # In place, because a new array of this size costs about as much as the arithmetic.
    np.take(centroids, index, axis=0, out=offset, mode="clip")
    np.subtract(rows, offset, out=offset)
    return index, np.einsum("nc,nc->n", offset, offset)


def sum_rows(
    rows: Float32[np.ndarray, "n D"],
    weights: Float32[np.ndarray, " n"],
    category_id: Int64[np.ndarray, " n"],
    k: int,
) -> tuple[Float64[np.ndarray, "K D"], Float64[np.ndarray, " K"]]:
    """Add up the rows of each class.

    Args:
        rows: rows to add.
        weights: weights of the rows.
        category_id: class of each row, below ``k``.
        k: number of classes, K.

    Returns:
        The sum of the weighted rows of each class, and the sum of their weights.
    """
    order = np.argsort(category_id, kind="stable")
    rows = rows[order]
    rows *= weights[order, None]
    sums = np.zeros((k, rows.shape[1]))
    start = 0
    for i, n in enumerate(np.bincount(category_id, minlength=k)):
        rows[start : start + n].sum(axis=0, dtype=np.float64, out=sums[i])
        start += n
    return sums, np.bincount(category_id, weights, k)


class Passes:
    """Passes through all rows, part by part.

    For float16 features of weight 1 the sums are exact as long as they stay below 2²⁹, so neither
    the order of the rows nor the parts affect the result. Inexact sums are added in the order of
    the parts, regardless of the process that computes them.

    Args:
        rows: all rows.
        batch_size: number of rows in memory at a time.
        mapper: maps a function over the parts.
    """

    def __init__(self, rows: Rows, batch_size: int, mapper: Mapper = map) -> None:
        self._parts = [(part, rows.weights(slice(*part))) for part in rows.parts(batch_size)]
        # Workers keep this function in memory; they get only the weights of their parts.
        self._sum_part = partial(_sum_part, rows.unweighted(), batch_size)
        self._mapper = mapper

    def __call__(self, centroids: Float32[np.ndarray, "K D"]) -> Pass:
        """Return the sums of one pass with these centroids."""
        k = len(centroids)
        current = Pass(np.zeros(centroids.shape), np.zeros(k), 0.0, np.zeros(k, np.int64))
        items = [(centroids, *part) for part in self._parts]
        for part in map_parts(self._mapper, self._sum_part, items):
            current = Pass(*(a + b for a, b in zip(current, part, strict=True)))
        return current


def lloyd_sums(rows: Rows, centroids: Float32[np.ndarray, "K D"], batch_size: int) -> Pass:
    """Return the sums of one pass over all rows.

    Args:
        rows: the rows.
        centroids: the centroids.
        batch_size: number of rows in memory at a time.
    """
    return Passes(rows, batch_size)(centroids)


def _sum_part(
    rows: Rows,
    batch_size: int,
    item: tuple[Float32[np.ndarray, "K D"], tuple[int, int], Float32[np.ndarray, " n"]],
) -> Pass:
    """Return the sums over a part; an item is centroids, (start, stop) and weights of rows."""
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
