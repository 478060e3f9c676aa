"""Online k-means in bounded memory, over features that stay on disk.

Seeds by greedy k-means++ on a uniform sample, one epoch of mini-batches, then Lloyd's iterations
that stream the data. Memory is bounded by K and the batch size, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import faiss
import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from alps.errors import AlpsError, TooFewMasks
from alps.types import Clusters

#: Neighbouring rows that a mini-batch takes at once: long enough for a disk, short enough that a
#: batch sees many images.
RUN = 32
#: Rows of the sample that seeds the centroids: so many for each cluster, and no fewer than.
SAMPLE_PER_CLUSTER, SAMPLE_MIN = 64, 8192
#: Points that compete to become a centroid. With scikit-learn's 2 + ln K the inertia ends up to
#: 1.5 % higher and varies more with the seed (46 clusters, 20,000 rows).
TRIES = 32
#: Lloyd's iterations end with one that improves the inertia by no more than this share of it.
TOLERANCE = 1e-5


class Rows:
    """Blocks of features, as one long array of rows that is read piecewise.

    Results depend on the order of the rows, never on how they are cut into blocks.

    Args:
        blocks: memory-mapped in practice; only the rows asked for are read.
    """

    def __init__(self, blocks: Sequence[Float[np.ndarray, "_ C"]]) -> None:
        self._blocks = blocks
        self._starts = np.cumsum([0, *(len(block) for block in blocks)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, index: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n C"]:
        """Rows by their place in the whole; n ≥ 1. Raises `AlpsError` on NaN or infinity."""
        home = np.searchsorted(self._starts, index, side="right") - 1
        local = index - self._starts[home]
        rows = np.empty((len(index), self._blocks[home[0]].shape[1]), np.float32)
        for b in np.unique(home):
            rows[home == b] = self._blocks[b][local[home == b]]
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)[0]
            raise AlpsError(
                f"features hold NaN or infinity in block {home[bad]}, row {local[bad]}; expected "
                "finite values (float16 ends at 65504): make them anew with overwrite=features"
            )
        return rows

    def chunks(self, size: int) -> Iterator[Float32[np.ndarray, "_ C"]]:
        """All rows in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Float32[np.ndarray, "_ C"]]:
        """All rows once, at most ``size`` at a time: short runs, drawn from the whole in any order.

        The order within a batch does not matter to k-means, so it is not shuffled.
        """
        run = min(RUN, size)
        starts = rng.permutation(np.arange(0, len(self), run))
        for first in range(0, len(starts), size // run):
            index = np.add.outer(starts[first : first + size // run], np.arange(run)).ravel()
            yield self.take(index[index < len(self)])


def fit_kmeans(
    blocks: Sequence[Float[np.ndarray, "_ C"]], k: int, *, niter: int, batch_size: int, seed: int
) -> Clusters:
    """Cluster the rows of all blocks; the same bytes for the same rows, seed and threads.

    Args:
        blocks: features, float16 or float32, usually memory-mapped; a block may have no rows.
        k: K.
        niter: passes that move the centroids, at most: the first in mini-batches (Sculley 2010,
            "Web-scale k-means clustering"), the others Lloyd's. One more pass only counts.
        batch_size: rows in memory at once.
        seed: of the sample, the seeding and the mini-batches.

    Raises:
        TooFewMasks: there are fewer rows than clusters.
        AlpsError: a feature is NaN or infinite.
    """
    rows = Rows(blocks)
    if len(rows) < k:
        raise TooFewMasks(
            f"{len(rows)} masks cannot make {k} clusters: lower assign.k to {len(rows)} at most, "
            "or label more images"
        )
    rng = np.random.default_rng(seed)
    # What a reservoir holds after the whole stream, drawn without reading it: lengths are known.
    n = min(len(rows), max(SAMPLE_PER_CLUSTER * k, SAMPLE_MIN))
    sample = rows.take(np.sort(rng.choice(len(rows), n, replace=False)))
    first = rng.integers(n, size=1)
    centroids = sample[np.append(first, plus_plus(sample, sample[first], k - 1, rng))]

    moved = np.zeros(centroids.shape)
    counts = np.zeros(k, np.int64)
    for batch in rows.batches(batch_size, rng):
        category_id, _ = nearest(batch, centroids)
        sums, new = sum_rows(batch, category_id, k)
        counts += new
        moved += (sums - new[:, None] * moved) / np.maximum(counts, 1)[:, None]
        centroids = np.where(counts[:, None] > 0, moved, centroids).astype(np.float32)

    last = np.inf
    for left in reversed(range(niter)):
        sums, counts, inertia = lloyd_sums(rows, centroids, batch_size)
        empty = counts == 0
        settled = last - inertia <= TOLERANCE * inertia and not empty.any()
        if settled or not left:
            break
        last = inertia
        centroids = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        if empty.any():
            centroids[empty] = sample[plus_plus(sample, centroids[~empty], int(empty.sum()), rng)]

    order = np.argsort(-counts, kind="stable")
    return Clusters(centroids[order], counts[order])


def plus_plus(
    points: Float32[np.ndarray, "n C"],
    centroids: Float32[np.ndarray, "K C"],
    k: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " k"]:
    """Choose ``k`` of the points to go beside the centroids; returns their places.

    Greedy k-means++ (Arthur & Vassilvitskii 2007): of a few points drawn with a probability in
    proportion to the squared distance from the nearest centroid, take the one that lowers the sum
    of these most. Where all points lie on centroids already, a point comes twice.
    """
    closest = nearest(points, centroids)[1].astype(np.float64)
    points = points - points.mean(axis=0)  # for the digits, as in `nearest`
    norms = np.einsum("nc,nc->n", points, points)
    chosen = np.zeros(k, np.int64)
    for i in range(k):
        mass = np.cumsum(closest)
        drawn = np.searchsorted(mass, rng.random(TRIES) * mass[-1], side="right")
        drawn = np.minimum(drawn, len(points) - 1)
        apart = norms + norms[drawn, None] - 2 * points[drawn] @ points.T
        apart = np.minimum(closest, np.maximum(apart, 0))
        best = apart.sum(axis=1).argmin()
        chosen[i], closest = drawn[best], apart[best]
    return chosen


def nearest(
    rows: Float32[np.ndarray, "n C"], centroids: Float32[np.ndarray, "K C"]
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The nearest centroid of each row, and the squared Euclidean distance to it."""
    # faiss expands |x - c|², which loses digits when all rows are far from the origin.
    middle = centroids.mean(axis=0)
    index = faiss.knn(rows - middle, centroids - middle, 1)[1][:, 0]
    apart = rows - centroids[index]
    return index, np.einsum("nc,nc->n", apart, apart)


def sum_rows(
    rows: Float32[np.ndarray, "n C"], category_id: Int64[np.ndarray, " n"], k: int
) -> tuple[Float64[np.ndarray, "K C"], Int64[np.ndarray, " K"]]:
    """Sum and number of the rows of each class."""
    counts = np.bincount(category_id, minlength=k)
    rows = rows[np.argsort(category_id, kind="stable")]
    sums = np.zeros((k, rows.shape[1]))
    for i, stop in enumerate(np.cumsum(counts)):
        rows[stop - counts[i] : stop].sum(axis=0, dtype=np.float64, out=sums[i])
    return sums, counts


def lloyd_sums(
    rows: Rows, centroids: Float32[np.ndarray, "K C"], batch_size: int
) -> tuple[Float64[np.ndarray, "K C"], Int64[np.ndarray, " K"], float]:
    """One pass: sum and number of the rows nearest to each centroid, and the inertia.

    These add up over parts of the data; for float16 features the sums are exact as long as they
    stay below 2²⁹, so neither the order nor the parts can be seen in the result.
    """
    sums, counts, inertia = np.zeros(centroids.shape), np.zeros(len(centroids), np.int64), 0.0
    for chunk in rows.chunks(batch_size):
        category_id, distance = nearest(chunk, centroids)
        part, n = sum_rows(chunk, category_id, len(centroids))
        sums += part
        counts += n
        inertia += float(distance.sum(dtype=np.float64))
    return sums, counts, inertia
