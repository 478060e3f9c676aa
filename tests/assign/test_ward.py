"""Merging clusters: parity with scipy where all count the same, and what counts change."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, is_valid_linkage, linkage
from sklearn.metrics import adjusted_rand_score

from alps.assign.ward import cut, ward_tree


def points(k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((k, 5)).astype(np.float32)


@pytest.mark.parametrize("k", [2, 3, 20, 60])
def test_equal_counts_give_scipys_tree(k: int) -> None:
    ours = ward_tree(points(k), np.ones(k, np.int64))
    theirs = linkage(points(k), "ward")
    assert is_valid_linkage(ours)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_count_is_worth_as_many_points() -> None:
    counts = np.random.default_rng(1).integers(1, 9, 25)
    ours = ward_tree(points(25), counts)
    repeated = np.repeat(np.arange(25), counts)
    theirs = linkage(points(25)[repeated], "ward")
    np.testing.assert_allclose(ours[:, 2], theirs[-24:, 2], rtol=1e-5)
    for n in (2, 5, 12):
        labels = cut(ours, counts, n)[repeated]
        assert adjusted_rand_score(labels, fcluster(theirs, n, "maxclust")) == 1


def test_classes_are_numbered_by_their_rows() -> None:
    counts = np.array([50, 40, 30, 20, 10])
    centroids = np.array([[0, 0], [9, 9], [9, 9.1], [20, 0], [20, 0.2]], np.float32)
    assert cut(ward_tree(centroids, counts), counts, 3).tolist() == [1, 0, 0, 2, 2]


def test_as_many_classes_as_clusters_changes_nothing() -> None:
    counts = np.array([9, 7, 5, 5])
    assert cut(ward_tree(points(4), counts), counts, 4).tolist() == [0, 1, 2, 3]


def test_empty_clusters_and_a_single_one() -> None:
    counts = np.array([4, 3, 0, 0])
    tree = ward_tree(points(4), counts)
    assert is_valid_linkage(tree)
    assert set(cut(tree, counts, 2)) == {0, 1}
    one = np.array([3])
    assert cut(ward_tree(points(1), one), one, 1).tolist() == [0]
