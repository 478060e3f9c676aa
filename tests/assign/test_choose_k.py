"""The figures one chooses K by."""

import math
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from alps.assign.choose_k import (
    Choice,
    compare_k,
    elbow,
    explain_choice,
    favoured,
    silhouette,
    with_classes,
)
from alps.assign.cluster import Cluster


def blobs(k: int = 5, n: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((k, 8))
    return (centres[rng.integers(k, size=n)] + 0.3 * rng.standard_normal((n, 8))).astype(np.float16)


def make(k: int, seed: int, **options) -> Cluster:
    return Cluster(k=k, seed=seed, weight="none", **options)


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


def test_the_inertia_is_that_of_the_assigner() -> None:
    areas = [np.ones(600, np.int64)]
    (choice,) = compare_k(make, [blobs()], areas, ks=(4,), seeds=(0,))
    clusters = make(4, 0).fit([blobs()])
    _, distance = make(4, 0).assign(blobs(), clusters)
    assert choice.inertia == pytest.approx(np.square(distance).mean(), rel=1e-5)


def test_merged_classes_are_compared_by_their_own_centres() -> None:
    cluster = Cluster(k=20, merge=4, niter=5, metric="spherical", weight="none")
    three = with_classes(cluster, 3, 7)
    assert vars(three) == {**vars(cluster), "merge": 3, "seed": 7}
    areas = [np.ones(600, np.int64)]
    found = list(compare_k(partial(with_classes, cluster), [blobs()], areas, ks=(2, 5, 20)))
    assert [f.inertia for f in found] == sorted((f.inertia for f in found), reverse=True)
    assert found[0].inertia > 2 * found[1].inertia
    assert max(found, key=lambda choice: choice.silhouette).k == 5


def curve(*inertia: float, silhouette: float = 0.5) -> list[Choice]:
    return [Choice(2 ** (i + 1), x, silhouette, -x) for i, x in enumerate(map(float, inertia))]


def test_the_elbow_is_farthest_below_the_chord() -> None:
    assert elbow(curve(10, 3, 2, 1)) == 4
    assert elbow(curve(10, 6, 1.2, 1)) == 8
    assert elbow(curve(100, 60, 12, 10)) == 8  # whatever the scale
    assert elbow(curve(10, 1, 0)) is None
    assert elbow(curve(1, 1e-9, 0)) == 4  # nothing is left at the last K


def test_an_elbow_that_is_not_clear_is_none() -> None:
    for straight in ((3, 2, 1), (10, 9, 1), (2, 1), (1, 1, 1), (8, 4, 2, 1), (1, 2, 3)):
        assert elbow(curve(*straight)) is None
    assert elbow(curve(8, 3.9, 2, 1)) is None  # a line, nearly
    assert elbow(curve(10, 3, 2, 1, silhouette=0.02)) is None
    assert elbow(curve(10, 3, 2, 1, silhouette=math.nan)) is None


@pytest.mark.parametrize("dim", [1, 2, 8, 64])
def test_rows_without_groups_have_no_clear_elbow(dim: int) -> None:
    rows = np.random.default_rng(0).random((600, dim)).astype(np.float16)
    found = list(compare_k(make, [rows], [np.ones(600, np.int64)], ks=(4, 8, 16, 32), seeds=(0,)))
    assert elbow(found) is None


@pytest.mark.parametrize("k", [5, 9])
def test_groups_that_lie_far_apart_have_one(k: int) -> None:
    areas = [np.ones(600, np.int64)]
    found = list(compare_k(make, [blobs(k)], areas, ks=(2, 3, k, 2 * k, 4 * k), seeds=(0,)))
    assert elbow(found) == k


def test_what_is_said_of_them() -> None:
    assert explain_choice(curve(10, 3, 2, 1)) == (
        "elbow at 4, largest silhouette 0.5 at 2, largest stability -1 at 16"
    )
    nothing = [Choice(2, 1.0, math.nan, math.nan), Choice(4, 0.5, math.nan, math.nan)]
    assert explain_choice(nothing) == "no clear elbow"


def test_each_figure_favours_its_best() -> None:
    assert favoured(curve(10, 3, 2, 1)) == {"inertia": 4, "silhouette": 2, "stability": 16}
    nothing = [Choice(2, 1.0, math.nan, math.nan), Choice(4, 0.5, math.nan, math.nan)]
    assert set(favoured(nothing).values()) == {None}
