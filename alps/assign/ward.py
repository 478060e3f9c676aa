"""Ward's method: hierarchical merging of many clusters into few classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64


def ward_tree(
    centroids: Float32[np.ndarray, "K D"], counts: Int64[np.ndarray, " K"]
) -> Float64[np.ndarray, "K-1 4"]:
    """Repeatedly merge the two clusters that increase the inertia least (Ward 1963).

    scipy's Ward linkage weights all points equally. This function weights each centroid by the
    number of rows of its cluster, which gives the result of merging the rows themselves.

    Args:
        centroids: centroids of K clusters.
        counts: number of rows of each cluster; an empty cluster counts as one row.

    Returns:
        A linkage matrix like that of `scipy.cluster.hierarchy.linkage`: for each merge, the two
        clusters, the height, and the number of centroids in the new cluster.
    """
    k = len(centroids)
    centers, mass = centroids.astype(np.float64), np.maximum(counts, 1).astype(np.float64)
    name, leaves = np.arange(k), np.ones(k)
    loss = np.full((k, k), np.inf)  # increase of the inertia for clusters a < b, at [a, b]
    for a in range(k):
        loss[a, a + 1 :] = _loss(centers, mass, a)[a + 1 :]
    tree = np.zeros((k - 1, 4))
    for i in range(k - 1):
        a, b = divmod(int(loss.argmin()), k)
        low, high = sorted((name[a], name[b]))
        tree[i] = low, high, np.sqrt(2 * loss[a, b]), leaves[a] + leaves[b]
        centers[a] = (mass[a] * centers[a] + mass[b] * centers[b]) / (mass[a] + mass[b])
        mass[a] += mass[b]
        leaves[a] += leaves[b]
        name[a], name[b] = k + i, -1
        loss[b], loss[:, b] = np.inf, np.inf
        increase = np.where(name >= 0, _loss(centers, mass, a), np.inf)
        loss[a, a + 1 :], loss[:a, a] = increase[a + 1 :], increase[:a]
    return tree


def cut(
    tree: Float64[np.ndarray, "_ 4"], counts: Int64[np.ndarray, " K"], num_classes: int
) -> Int32[np.ndarray, " K"]:
    """Cut a tree into classes and return the class of each cluster.

    Args:
        tree: linkage matrix from `ward_tree`.
        counts: number of rows of each cluster.
        num_classes: number of classes.

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
    centers: Float64[np.ndarray, "K D"], mass: Float64[np.ndarray, " K"], a: int
) -> Float64[np.ndarray, " K"]:
    """Return the increase of the inertia for a merge of cluster ``a`` with each cluster."""
    offset = centers - centers[a]
    squared = np.einsum("kd,kd->k", offset, offset)
    increase: np.ndarray = mass * mass[a] / (mass + mass[a]) * squared
    return increase
