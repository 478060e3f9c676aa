"""Compare online k-means with scikit-learn's MiniBatchKMeans at the same batch size.

python -m benchmarks.kmeans
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float16, Float32
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from alps.assign.cluster import Cluster
from alps.assign.kmeans import fit_kmeans, lloyd_sums
from alps.assign.rows import Rows
from benchmarks.measure import Spread, arguments, interleave, one_thread, ratio, show

CHANNELS = 256
BATCH = 4096


def features(n: int) -> Float16[np.ndarray, "n C"]:
    """Return 2000 overlapping groups of very different sizes, similar to mask features."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (2000, CHANNELS)).astype(np.float32)
    share = 1 / np.arange(1, len(centres) + 1)
    group = rng.choice(len(centres), n, p=share / share.sum())
    rows = np.empty((n, CHANNELS), np.float16)
    for start in range(0, n, 1 << 16):
        part = group[start : start + (1 << 16)]
        rows[start : start + len(part)] = centres[part] + rng.standard_normal(
            (len(part), CHANNELS), np.float32
        )
    return rows


def inertia(rows: Float16[np.ndarray, "n C"], centroids: Float32[np.ndarray, "K C"]) -> float:
    """Return the sum of squared distances to the nearest centroid over all rows."""
    return lloyd_sums(Rows([rows]), centroids, 1 << 14).inertia


def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    n = 1_000_000 if args.full else 200_000
    rows = features(n)
    niter = Cluster().niter
    cells = []
    with threadpool_limits(1):
        for k in (46, 256, 1000):
            rounds = 1 if k == 1000 or args.full else 3  # ten minutes in all, either way
            results, seconds = interleave(
                {
                    "ours": lambda k=k: (
                        fit_kmeans(Rows([rows]), k, niter=niter, batch_size=BATCH, seed=0).centroids
                    ),
                    "one pass": lambda k=k: (
                        fit_kmeans(Rows([rows]), k, niter=1, batch_size=BATCH, seed=0).centroids
                    ),
                    "sklearn": lambda k=k: (
                        MiniBatchKMeans(k, batch_size=BATCH, n_init=1, random_state=0)
                        .fit(rows.astype(np.float32))
                        .cluster_centers_
                    ),
                },
                rounds,
            )
            spread = {name: inertia(rows, c.astype(np.float32)) for name, c in results.items()}
            cells += [
                [
                    f"K {k}, {name}",
                    rounds,
                    Spread.of(times),
                    ratio(seconds["sklearn"], times),
                    f"{spread[name] / spread['sklearn']:.4f}",
                ]
                for name, times in seconds.items()
            ]
    show(
        f"k-means of {n:,} rows of {CHANNELS} numbers, batches of {BATCH}",
        ["", "rounds", "CPU s", "times as fast as sklearn", "inertia / sklearn's"],
        cells,
    )


if __name__ == "__main__":
    main()
