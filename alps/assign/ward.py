"""Ward's method: a tree of merges that turns many small clusters into few classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64


def ward_tree(
    centroids: Float32[np.ndarray, "K D"], counts: Int64[np.ndarray, " K"]
) -> Float64[np.ndarray, "K-1 4"]:
    """Merge repeatedly the two clusters whose merge increases the inertia least (Ward 1963).

    scipy's Ward linkage counts every point once. Here a centroid counts as many times as its
    cluster has rows, as if the rows themselves had been merged into the clusters.

    Args:
        centroids: of K clusters.
        counts: rows of each cluster; an empty cluster counts as one row.

    Returns:
        A linkage matrix as of `scipy.cluster.hierarchy.linkage`: per merge the two clusters, the
        height, and the number of centroids in the new cluster.
    """
    k = len(centroids)
    middle, mass = centroids.astype(np.float64), np.maximum(counts, 1).astype(np.float64)
    name, leaves = np.arange(k), np.ones(k)
    loss = np.full((k, k), np.inf)  # of each pair of clusters, at [a, b] with a < b
    for a in range(k):
        loss[a, a + 1 :] = _loss(middle, mass, a)[a + 1 :]
    tree = np.zeros((k - 1, 4))
    for i in range(k - 1):
        a, b = divmod(int(loss.argmin()), k)
        low, high = sorted((name[a], name[b]))
        tree[i] = low, high, np.sqrt(2 * loss[a, b]), leaves[a] + leaves[b]
        middle[a] = (mass[a] * middle[a] + mass[b] * middle[b]) / (mass[a] + mass[b])
        mass[a] += mass[b]
        leaves[a] += leaves[b]
        name[a], name[b] = k + i, -1
        loss[b], loss[:, b] = np.inf, np.inf
        apart = np.where(name >= 0, _loss(middle, mass, a), np.inf)
        loss[a, a + 1 :], loss[:a, a] = apart[a + 1 :], apart[:a]
    return tree


def cut(
    tree: Float64[np.ndarray, "_ 4"], counts: Int64[np.ndarray, " K"], num_classes: int
) -> Int32[np.ndarray, " K"]:
    """Cut a tree into branches and return the class of each cluster.

    Args:
        tree: from `ward_tree`.
        counts: rows of each cluster.
        num_classes: number of branches.

    Returns:
        The class of each of the K clusters; class 0 has the most rows.
    """
    k = len(counts)
    branch = np.arange(k)
    for i, (low, high) in enumerate(tree[: k - num_classes, :2]):
        branch[(branch == low) | (branch == high)] = k + i
    branch = np.unique(branch, return_inverse=True)[1]
    rows = np.bincount(branch, counts, num_classes)
    rank = np.empty(num_classes, np.int32)
    rank[np.argsort(-rows, kind="stable")] = np.arange(num_classes)
    category_id: np.ndarray = rank[branch]
    return category_id


def _loss(
    middle: Float64[np.ndarray, "K D"], mass: Float64[np.ndarray, " K"], a: int
) -> Float64[np.ndarray, " K"]:
    """Return the increase of the inertia if cluster ``a`` is merged with each other cluster."""
    apart = middle - middle[a]
    grows: np.ndarray = mass * mass[a] / (mass + mass[a]) * np.einsum("kd,kd->k", apart, apart)
    return grows
