"""The figures one chooses K by."""

import math
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from alps.assign.choose_k import compare_k, silhouette
from alps.assign.cluster import Cluster


def blobs(k: int = 5, n: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((k, 8))
    return (centres[rng.integers(k, size=n)] + 0.3 * rng.standard_normal((n, 8))).astype(np.float16)


def make(k: int, seed: int, **options) -> Cluster:
    return Cluster(k=k, seed=seed, **options)


@pytest.mark.parametrize("k", [2, 7, 40])
def test_the_silhouette_is_sklearns(k: int) -> None:
    rng = np.random.default_rng(0)
    rows, labels = 5 + rng.standard_normal((120, 6)).astype(np.float32), rng.integers(k, size=120)
    labels[0] = k + 3  # alone in its cluster; and not all numbers are used
    assert silhouette(rows, labels) == pytest.approx(silhouette_score(rows, labels), abs=1e-6)


def test_one_cluster_has_no_silhouette() -> None:
    assert math.isnan(silhouette(np.ones((5, 2), np.float32), np.zeros(5, int)))


@pytest.mark.parametrize("options", [{}, {"metric": "spherical"}, {"reject": 0.05}])
def test_the_true_k_stands_out(options: dict) -> None:
    blocks = np.array_split(blobs(), 3)
    areas = [np.ones(len(block), np.int64) for block in blocks]
    found = list(compare_k(partial(make, **options), blocks, areas, ks=(2, 5, 9)))
    assert [choice.k for choice in found] == [2, 5, 9]
    assert max(found, key=lambda c: c.silhouette).k == 5
    assert found[1].stability == pytest.approx(1, abs=0.15)
    assert found[1].stability > found[2].stability
    drops = -np.diff([choice.inertia for choice in found])
    assert drops[0] > 10 * drops[1] > 0


def test_one_seed_says_nothing_of_stability() -> None:
    areas = [np.ones(600, np.int64)]
    (choice,) = compare_k(make, [blobs()], areas, ks=(3,), seeds=(0,))
    assert math.isnan(choice.stability)
    assert choice.inertia > 0
