"""Classes by k-means clustering of the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer

from alps.assign.kmeans import fit_kmeans, nearest
from alps.assign.limits import LIMITS
from alps.assign.projection import fit_pca, project, unit, unit_groups
from alps.assign.rows import Rows, Transform, map_parts
from alps.assign.search import on_gpu
from alps.assign.ward import cut, ward_tree
from alps.protocols import Identity, Mapper
from alps.structures.masks import Masks
from alps.structures.paint import fill_uncovered, paint
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, Clusters
from alps.structures.settings import check_attributes

#: The default tolerance; earlier versions had no other, and no setting ``tol``.
TOL_BEFORE = 1e-5


class Cluster:
    """Classes by online k-means over the features of all masks (ALPS, arXiv 2406.10855).

    Class 0 is the largest, not a background class; pixels without a mask have the store's
    ``ignore_index``, unless ``fill`` gives them a class.

    Args:
        k: number of clusters, K.
        niter: maximum number of k-means iterations.
        tol: iterations stop when one lowers the inertia by this fraction or less. 1e-3 is up to
            four times as fast, but gives slightly worse classes of tens of thousands of masks.
        batch_size: number of rows in a mini-batch, and in memory at a time.
        seed: random seed.
        metric: ``euclidean``, or ``spherical``, which scales rows and centroids to length 1 and so
            maximises the cosine.
        pca: number of principal components that the features are projected onto; None: no
            projection.
        whiten: power of its standard deviation by which each component is divided: 0 or False
            leaves the components as they are, 1 or True scales all to the same variance.
        channel_groups: numbers of channels of the parts of the features, such as feature maps.
            Each is projected onto components of its own, weighted by ``weight``, and scaled to
            length 1, so that none dominates. None: the features are one vector.
        restarts: number of runs of k-means; the result with the lowest inertia is used.
        weight: weight of a mask in means and inertia: "none" (1), "area" (number of pixels) or
            "sqrt_area".
        merge: number of classes that the clusters are merged into by Ward's method; None: each
            cluster is a class.
        reject: fraction of each cluster's masks that get no class; these are the masks farthest
            from the centroid.
        fill: distance in pixels up to which uncovered pixels get the class of the nearest mask.

    Raises:
        ConfigError: a setting is out of range, or two settings contradict each other.
    """

    def __init__(
        self,
        *,
        k: int = 46,
        niter: int = 25,
        tol: float = TOL_BEFORE,
        batch_size: int = 4096,
        seed: int = 0,
        metric: str = "euclidean",
        pca: int | None = None,
        whiten: bool | float = False,
        channel_groups: Sequence[int] | None = None,
        restarts: int = 1,
        weight: str = "area",
        merge: int | None = None,
        reject: float = 0.0,
        fill: int = 0,
    ) -> None:
        self.k, self.niter, self.tol, self.batch_size, self.seed = k, niter, tol, batch_size, seed
        self.metric, self.pca, self.whiten, self.restarts = metric, pca, whiten, restarts
        self.weight, self.merge, self.reject, self.fill = weight, merge, reject, fill
        self.channel_groups = None if channel_groups is None else list(channel_groups)
        check_attributes(LIMITS["alps.assign.Cluster"], self)

    @property
    def identity(self) -> Identity:
        """Settings that affect the classes; ``version`` counts changes of the algorithm."""
        device = {"faiss.device": "cuda"} if on_gpu() else {}
        settings = dict(vars(self))
        if self.niter == 1 or self.tol == TOL_BEFORE:  # as before: fingerprints stay valid
            del settings["tol"]
        if self.channel_groups is None:  # likewise
            del settings["channel_groups"]
        return {"assigner": "cluster", "version": 3, **settings, **device}

    @property
    def num_classes(self) -> int:
        """Number of classes after merging."""
        return self.k if self.merge is None else self.merge

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]] | None = None,
        mapper: Mapper = map,
    ) -> Clusters:
        """Find the clusters.

        Args:
            blocks: features of all masks, float16 or float32, usually memory-mapped.
            areas: areas of the same masks in pixels, one array per block; not used if ``weight``
                is "none".
            mapper: maps a function over parts of the rows, e.g. in worker processes; it does not
                affect the result.

        Returns:
            The clusters, the largest first.

        Raises:
            TooFewMasks: there are fewer masks than clusters.
            ConfigError: there are fewer channels than ``pca``.
            AlpsError: a feature is NaN or infinite.
        """
        weights = self._weigh(areas)
        mean, components = None, None
        if self.pca is not None:
            scaled = Rows(blocks, weights=weights, transform=self._scale)
            mean, components = fit_pca(
                scaled,
                self.pca,
                whiten=float(self.whiten),
                batch_size=self.batch_size,
                groups=self.channel_groups,
                mapper=mapper,
            )
        rows = Rows(blocks, weights=weights, transform=self._embedding(mean, components))
        clusters = fit_kmeans(
            rows,
            self.k,
            niter=self.niter,
            tol=self.tol,
            batch_size=self.batch_size,
            seed=self.seed,
            restarts=self.restarts,
            spherical=self.metric == "spherical",
            mapper=mapper,
        )
        clusters = replace(clusters, mean=mean, components=components)
        if self.merge is not None:
            tree = ward_tree(clusters.centroids, clusters.counts)
            category_id = cut(tree, clusters.counts, self.merge)
            clusters = replace(clusters, tree=tree, category_id=category_id)
        if self.reject:
            clusters = replace(clusters, radius=self._radius(rows, clusters.centroids, mapper))
        return clusters

    def embed(
        self, features: Float[np.ndarray, "N C"], clusters: Clusters
    ) -> Float32[np.ndarray, "N D"]:
        """Scale and project features into the space of the centroids."""
        return self._embedding(clusters.mean, clusters.components)(features.astype(np.float32))

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str = "",
        masks: Masks | None = None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Assign each row the class of its nearest centroid.

        Args:
            features: one row per mask.
            clusters: clusters from `fit`.
            image_id: not used.
            masks: not used.

        Returns:
            The class of each mask, -1 if it is rejected; and the Euclidean distance to the nearest
            centroid, which is √(2 - 2 cos) on the unit sphere.

        Raises:
            AlpsError: a feature is NaN or infinite.
        """
        assert clusters is not None, "clusters are None; call fit first"
        rows = Rows([features], transform=self._embedding(clusters.mean, clusters.components))
        cluster = np.empty(len(rows), np.int64)
        distance = np.empty(len(rows), np.float32)
        for index in rows.chunks(self.batch_size):
            cluster[index], squared = nearest(rows.take(index), clusters.centroids)
            distance[index] = np.sqrt(squared)
        category_id = cluster if clusters.category_id is None else clusters.category_id[cluster]
        if clusters.radius is not None:
            category_id = np.where(distance <= clusters.radius[cluster], category_id, -1)
        return category_id.astype(np.int32), distance

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """Paint small masks over large ones, then fill uncovered pixels near a mask.

        Args:
            masks: masks of one image.
            category_id: class of each mask.
            ignore_index: value of uncovered pixels.

        Returns:
            The class of each pixel.
        """
        index_map = paint(masks, category_id, ignore_index)
        return fill_uncovered(index_map, masks, self.fill)

    def categories(self) -> list[Category]:
        """Return one class per cluster, or per merged cluster, the largest first."""
        return cluster_categories(self.num_classes)

    def _scale(self, rows: Float32[np.ndarray, "n C"]) -> Float32[np.ndarray, "n C"]:
        """Scale rows to length 1 if the metric is spherical."""
        return unit(rows) if self.metric == "spherical" else rows

    def _embedding(
        self,
        mean: Float32[np.ndarray, " C"] | None,
        components: Float32[np.ndarray, "D C"] | None,
    ) -> Transform:
        """Return `_embed` with a projection, as a transform for `Rows`."""
        return partial(self._embed, mean, components)

    def _embed(
        self,
        mean: Float32[np.ndarray, " C"] | None,
        components: Float32[np.ndarray, "D C"] | None,
        rows: Float32[np.ndarray, "n C"],
    ) -> Float32[np.ndarray, "n D"]:
        """Scale, project and scale rows again, into the space of the centroids."""
        projected = project(self._scale(rows), mean, components)
        if self.channel_groups is not None and self.pca is not None:
            projected = unit_groups(
                projected, [min(self.pca, size) for size in self.channel_groups]
            )
        return self._scale(projected)

    def _weigh(
        self, areas: Sequence[Int64[np.ndarray, " _"]] | None
    ) -> Float32[np.ndarray, " n"] | None:
        """Return the weights of all masks from their areas in pixels; None if all are 1."""
        if self.weight == "none":
            return None
        if areas is None:
            raise ValueError(f"weight={self.weight} needs the areas of the masks")
        area = np.concatenate([block.astype(np.float32) for block in areas])
        return np.sqrt(area) if self.weight == "sqrt_area" else area

    def _radius(
        self, rows: Rows, centroids: Float32[np.ndarray, "K D"], mapper: Mapper
    ) -> Float32[np.ndarray, " K"]:
        """Return the radius of each cluster beyond which masks are rejected.

        It lies half-way between the last assigned mask and the first rejected one. The computation
        takes 12 bytes of memory per mask.
        """
        nearest_of_part = partial(_nearest, rows, centroids, self.batch_size)
        parts = list(map_parts(mapper, nearest_of_part, rows.parts(self.batch_size)))
        cluster, squared = (np.concatenate(part) for part in zip(*parts, strict=True))
        stops = np.cumsum(np.bincount(cluster, minlength=len(centroids)))
        radius = np.full(len(centroids), np.inf, np.float32)
        distances = np.sqrt(squared[np.lexsort((squared, cluster))])
        for i, of_cluster in enumerate(np.split(distances, stops[:-1])):
            if rejected := int(self.reject * len(of_cluster)):
                radius[i] = (of_cluster[-rejected - 1] + of_cluster[-rejected]) / 2
        return radius


def _nearest(
    rows: Rows, centroids: Float32[np.ndarray, "K D"], batch_size: int, part: tuple[int, int]
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Return the nearest centroid of each row of a part (start, stop), and squared distances."""
    parts = [nearest(rows.take(i), centroids) for i in rows.chunks(batch_size, *part)]
    cluster, squared = (np.concatenate(chunks) for chunks in zip(*parts, strict=True))
    return cluster, squared


def cluster_categories(k: int) -> list[Category]:
    """Return ``k`` classes named by number."""
    digits = max(2, len(str(k - 1)))
    return [
        Category(id=i, name=f"cluster_{i:0{digits}d}", color=color)
        for i, color in enumerate(distinct_colors(k))
    ]
