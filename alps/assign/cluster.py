"""A mask's class is the cluster its features fall into."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int32

from alps.assign.kmeans import Rows, fit_kmeans, nearest
from alps.errors import ConfigError
from alps.palette import distinct_colors
from alps.types import Category, Clusters, Identity


class Cluster:
    """Classes by online k-means over the features of all masks (ALPS, arXiv 2406.10855).

    Class 0 is the largest cluster, a class like any other; what no mask covers is the store's
    ``ignore_index``.

    Args:
        k: number of clusters, K.
        niter: passes over the features that move the centroids, at most.
        batch_size: rows in memory at once, and of a mini-batch.
        seed: of all that is drawn.
    """

    def __init__(
        self, *, k: int = 46, niter: int = 25, batch_size: int = 4096, seed: int = 0
    ) -> None:
        for name, value in (("k", k), ("niter", niter), ("batch_size", batch_size)):
            if value < 1:
                raise ConfigError(f"assign.{name} must be 1 or more, got {value}")
        self.k, self.niter, self.batch_size, self.seed = k, niter, batch_size, seed

    @property
    def identity(self) -> Identity:
        """The settings that change the classes; ``version`` counts changes of the algorithm."""
        return {
            "assigner": "cluster",
            "version": 1,
            "k": self.k,
            "niter": self.niter,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    @property
    def num_classes(self) -> int:
        """K."""
        return self.k

    def fit(self, blocks: Sequence[Float[np.ndarray, "_ C"]]) -> Clusters:
        """Find the clusters; see `fit_kmeans` for the errors."""
        return fit_kmeans(
            blocks, self.k, niter=self.niter, batch_size=self.batch_size, seed=self.seed
        )

    def assign(
        self, features: Float[np.ndarray, "N C"], clusters: Clusters
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """The nearest centroid of each row is its class; the distance to it is Euclidean.

        Raises:
            AlpsError: a feature is NaN or infinite.
        """
        category_id = np.empty(len(features), np.int32)
        distance = np.empty(len(features), np.float32)
        for i, chunk in enumerate(Rows([features]).chunks(self.batch_size)):
            here = slice(i * self.batch_size, (i + 1) * self.batch_size)
            category_id[here], squared = nearest(chunk, clusters.centroids)
            distance[here] = np.sqrt(squared)
        return category_id, distance

    def categories(self) -> list[Category]:
        """One class per cluster, the largest first."""
        digits = max(2, len(str(self.k - 1)))
        return [
            Category(id=i, name=f"cluster_{i:0{digits}d}", color=color)
            for i, color in enumerate(distinct_colors(self.k))
        ]
