"""Online k-means against scikit-learn, and what must not be seen in its result."""

import hashlib
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from alps.assign import kmeans
from alps.assign.kmeans import Passes, fit_kmeans, lloyd_sums, nearest, plus_plus
from alps.assign.rows import Rows
from alps.errors import AlpsError, TooFewMasks
from alps.structures.records import Clusters


def blobs(
    k: int = 8, n: int = 1500, c: int = 12, spread: float = 0.05, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(n, c) features around k centres of unequal weight, and the centre of each."""
    rng = np.random.default_rng(seed)
    weight = rng.dirichlet(np.full(k, 3.0))
    truth = np.concatenate([np.arange(k), rng.choice(k, n - k, p=weight)])
    noise = spread * rng.standard_normal((n, c))
    return (rng.standard_normal((k, c))[truth] + noise).astype(np.float32), truth


def fit(*blocks: np.ndarray, k: int = 8, seed: int = 0, **options: float) -> Clusters:
    return fit_kmeans(Rows(blocks), k, **{"niter": 25, "batch_size": 256, "seed": seed, **options})


def inertia(x: np.ndarray, centroids: np.ndarray) -> float:
    return float(((x[:, None] - centroids) ** 2).sum(axis=2).min(axis=1).sum(dtype=np.float64))


def same(a: Clusters, b: Clusters) -> bool:
    return (
        a.centroids.tobytes() == b.centroids.tobytes() and a.counts.tobytes() == b.counts.tobytes()
    )


@pytest.mark.parametrize("seed", range(5))
def test_separated_blobs_are_recovered_exactly(seed: int) -> None:
    x, truth = blobs(seed=seed)
    clusters = fit(x, seed=seed)
    assert adjusted_rand_score(truth, nearest(x, clusters.centroids)[0]) == 1.0
    assert clusters.counts.tolist() == sorted(np.bincount(truth).tolist(), reverse=True)
    peer = KMeans(8, n_init=1, init=clusters.centroids).fit(x)
    assert inertia(x, clusters.centroids) == pytest.approx(peer.inertia_, rel=1e-5)


def test_mini_batches_alone_find_the_means_of_separated_blobs() -> None:
    x, truth = blobs()
    order = np.argsort(-np.bincount(truth), kind="stable")
    means = np.stack([x[truth == i].mean(axis=0) for i in order])
    np.testing.assert_allclose(fit(x, niter=1).centroids, means, atol=1e-5)


def test_where_clusters_overlap_the_inertia_is_that_of_sklearn() -> None:
    x, _ = blobs(k=20, n=1500, spread=0.8)
    ours = [inertia(x, fit(x, k=12, seed=s).centroids) for s in range(6)]
    peer = [KMeans(12, n_init=1, random_state=s).fit(x).inertia_ for s in range(6)]
    assert np.mean(ours) <= 1.01 * np.mean(peer)
    assert max(ours) <= 1.05 * min(peer)


def test_the_seed_matters_but_not_to_the_quality() -> None:
    x, _ = blobs(k=20, n=1500, spread=0.8)
    results = [fit(x, k=12, seed=s) for s in range(4)]
    assert same(results[0], fit(x, k=12, seed=0))
    assert len({clusters.centroids.tobytes() for clusters in results}) == 4
    found = [inertia(x, clusters.centroids) for clusters in results]
    assert max(found) <= 1.05 * min(found)


def test_the_cut_into_blocks_cannot_be_seen() -> None:
    x, _ = blobs(k=20, n=1500, spread=0.8)
    nothing = x[:0]
    cuts = [nothing, *np.array_split(x, 97), nothing, nothing]
    uneven = [x[:3], nothing, x[3:1000], x[1000:]]
    whole = fit(x)
    assert same(whole, fit(*cuts))
    assert same(whole, fit(*uneven))


def test_float16_gives_what_its_values_give_in_float32() -> None:
    x = blobs(spread=0.8)[0].astype(np.float16)
    assert same(fit(x), fit(x.astype(np.float32)))


def test_same_bytes_in_another_process_with_another_hash_seed() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from alps.assign.kmeans import fit_kmeans\n"
        "from alps.assign.rows import Rows\n"
        "x = np.random.default_rng(5).standard_normal((1000, 8)).astype(np.float16)\n"
        "c = fit_kmeans(Rows([x[:300], x[300:]]), 16, niter=5, batch_size=128, seed=3)\n"
        "print(hashlib.sha256(c.centroids.tobytes() + c.counts.tobytes()).hexdigest())"
    )
    x = np.random.default_rng(5).standard_normal((1000, 8)).astype(np.float16)
    here = fit(x, k=16, niter=5, batch_size=128, seed=3)
    digest = hashlib.sha256(here.centroids.tobytes() + here.counts.tobytes()).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=Path(__file__).parents[2],
    )
    assert there.stdout.strip() == digest


@pytest.mark.parametrize(("n", "batch_size"), [(2 * 64 + 3, 64), (130, 7), (101, 100), (40, 1)])
def test_a_batch_smaller_than_k_is_fine(n: int, batch_size: int) -> None:
    x, _ = blobs(n=n, spread=0.8)
    clusters = fit(x, k=20, batch_size=batch_size)
    assert np.isfinite(clusters.centroids).all()
    assert clusters.counts.sum() == n
    assert clusters.counts.min() > 0


def test_as_many_rows_as_clusters_each_get_their_own() -> None:
    x, _ = blobs(n=30, spread=0.8)
    clusters = fit(x, k=30)
    assert (clusters.counts == 1).all()
    assert {row.tobytes() for row in clusters.centroids} == {row.tobytes() for row in x}


@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_rows_than_clusters(distinct: int) -> None:
    x = np.repeat(blobs(n=10, spread=0.8)[0][:distinct], 50, axis=0)
    clusters = fit(x, k=8)
    assert np.isfinite(clusters.centroids).all()
    assert clusters.counts.sum() == len(x)
    assert (clusters.counts > 0).sum() == distinct
    assert inertia(x, clusters.centroids) == 0
    assert np.bincount(nearest(x, clusters.centroids)[0], minlength=8).tolist() == (
        clusters.counts.tolist()
    )


def test_fewer_rows_than_clusters_says_both_numbers_and_what_to_do() -> None:
    with pytest.raises(TooFewMasks, match=r"5 masks .* 8 clusters.*lower assign\.k to 5"):
        fit(blobs(n=20)[0][:2], blobs(n=20)[0][:3])
    with pytest.raises(TooFewMasks, match="0 masks"):
        fit()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [200, 12000])  # fewer and more than the sample
def test_a_value_that_is_not_finite_is_named(value: float, n: int) -> None:
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float16)
    x[150, 2] = value
    with pytest.raises(AlpsError, match=r"block 2, row 49.*overwrite=features"):
        fit(x[:1], x[1:101], x[101:], niter=1)


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_the_nearest_centroids_largest_first(seed: int) -> None:
    x, _ = blobs(k=20, spread=0.8)
    clusters = fit(x, k=16, seed=seed, niter=2)
    nearest_of = ((x[:, None] - clusters.centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert np.bincount(nearest_of, minlength=16).tolist() == clusters.counts.tolist()
    assert clusters.counts.tolist() == sorted(clusters.counts.tolist(), reverse=True)
    assert clusters.centroids.shape == (16, 12)


@pytest.mark.parametrize("tol", [0.0, np.inf])
def test_empty_clusters_are_seeded_again(monkeypatch: pytest.MonkeyPatch, tol: float) -> None:
    x, truth = blobs()
    calls = []

    def same_point_first(*args):
        calls.append(args)
        return np.zeros(7, np.int64) if len(calls) == 1 else plus_plus(*args)

    monkeypatch.setattr(kmeans, "plus_plus", same_point_first)
    clusters = fit(x, batch_size=len(x), tol=tol)
    assert len(calls) == 2
    assert clusters.counts.all()
    assert adjusted_rand_score(truth, nearest(x, clusters.centroids)[0]) > 0.99


def test_features_far_from_the_origin() -> None:
    x, truth = blobs(n=4096, c=64)  # enough for faiss to expand the squares
    x += 20_000
    clusters = fit(x, batch_size=4096)
    assert adjusted_rand_score(truth, nearest(x, clusters.centroids)[0]) == 1.0


def test_more_passes_never_raise_the_inertia() -> None:
    x, _ = blobs(k=20, n=2000, spread=0.8)
    found = [inertia(x, fit(x, k=12, niter=niter, tol=0.0).centroids) for niter in (1, 2, 4, 8, 16)]
    assert found == sorted(found, reverse=True)


def test_passes_stop_when_they_gain_less_than_the_tolerance() -> None:
    x, _ = blobs(k=20, n=2000, spread=0.8)
    passes = [fit(x, k=12, niter=niter, tol=0.0) for niter in range(1, 26)]
    found = np.array([inertia(x, clusters.centroids) for clusters in passes])
    gains = (found[:-1] - found[1:]) / found[1:]
    for tol in (0.02, 0.002):
        last = int(np.flatnonzero(gains <= tol)[0]) + 1
        assert same(fit(x, k=12, tol=tol), passes[last])


def test_sums_add_up_exactly_over_parts_of_the_data() -> None:
    x = blobs(spread=0.8)[0].astype(np.float16)
    centroids = fit(x).centroids
    whole = lloyd_sums(Rows([x]), centroids, 256)
    parts = [
        lloyd_sums(Rows([part]), centroids, 100) for part in (x[1000::2], x[:1000], x[1001::2])
    ]
    assert (sum(p[0] for p in parts) == whole[0]).all()
    assert (sum(p[1] for p in parts) == whole[1]).all()
    assert sum(p[2] for p in parts) == pytest.approx(whole[2], rel=1e-6)


@pytest.mark.parametrize("size", [1, 10, 64, 1000, 5000])
def test_batches_hold_every_row_once_from_all_over(size: int) -> None:
    x = np.arange(2999, dtype=np.float32)[:, None]
    rows = Rows([x[:1234], x[1234:]])
    batches = [rows.take(index) for index in rows.batches(size, np.random.default_rng(0))]
    assert np.sort(np.concatenate(batches).ravel()).tolist() == x.ravel().tolist()
    assert max(len(batch) for batch in batches) <= size
    if size == 1000:
        assert all(np.ptp(batch) > 2000 for batch in batches[:-1])


def test_seeds_fall_where_no_centroid_is() -> None:
    x, truth = blobs(k=10)
    centres = np.stack([x[truth == i].mean(axis=0) for i in range(10)])
    chosen = plus_plus(x, centres[:4], 6, np.random.default_rng(0), np.ones(len(x), np.float32))
    assert set(truth[chosen]) == {4, 5, 6, 7, 8, 9}


def test_a_weight_is_worth_as_many_rows() -> None:
    x, _ = blobs(n=400, spread=0.8)
    times = np.random.default_rng(0).integers(1, 6, len(x))
    centroids = fit(x).centroids
    weighted = lloyd_sums(Rows([x], weights=times.astype(np.float32)), centroids, 64)
    repeated = lloyd_sums(Rows([np.repeat(x, times, axis=0)]), centroids, 64)
    np.testing.assert_allclose(weighted.sums, repeated.sums, rtol=1e-5, atol=1e-5)
    assert weighted.mass.tolist() == repeated.mass.tolist() == repeated.counts.tolist()
    assert weighted.inertia == pytest.approx(repeated.inertia, rel=1e-6)
    assert weighted.counts.sum() == len(x)


def test_workers_are_sent_the_weights_of_a_part_only() -> None:
    x, _ = blobs(n=400)
    rows = Rows([x], weights=np.random.default_rng(0).lognormal(0, 2, len(x)).astype(np.float32))
    centroids = fit(x).centroids
    sent = []

    def elsewhere(task: Any, items: Any) -> Any:
        for item in items:
            sent.append(pickle.dumps((task, item)))
            task_there, item_there = pickle.loads(sent[-1])
            yield task_there(item_there)

    there, here = Passes(rows, 8, elsewhere)(centroids), Passes(rows, 8)(centroids)
    assert len(sent) > 1
    assert all((a == b).all() for a, b in zip(map(np.asarray, there), here, strict=True))
    features = len(pickle.dumps(x))
    assert max(map(len, sent)) < features + len(pickle.dumps(centroids)) + 2 * len(x)


def test_weighted_inertia_is_that_of_sklearn() -> None:
    x, _ = blobs(k=20, n=1500, spread=0.8)
    weights = np.random.default_rng(0).lognormal(0, 2, len(x)).astype(np.float32)
    rows = Rows([x], weights=weights)
    ours = [
        fit_kmeans(rows, 12, niter=25, batch_size=256, seed=s, restarts=2).centroids
        for s in range(3)
    ]
    peer = [KMeans(12, n_init=2, random_state=s).fit(x, sample_weight=weights) for s in range(3)]
    found = [lloyd_sums(rows, centroids, 256).inertia for centroids in ours]
    assert np.mean(found) <= 1.02 * np.mean([p.inertia_ for p in peer])


def test_the_lowest_inertia_of_the_restarts_wins() -> None:
    x, _ = blobs(k=20, n=800, spread=0.8)
    found = [inertia(x, fit(x, k=12, niter=3, restarts=n).centroids) for n in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]
    assert same(fit(x, restarts=1), fit(x))


def test_online_in_one_pass_is_near_full_batch_lloyd() -> None:
    x, truth = blobs(k=8, n=3000, spread=0.3)
    full = [KMeans(8, n_init=1, random_state=s).fit(x) for s in range(3)]
    online = [fit(x, niter=1, seed=s).centroids for s in range(3)]
    scores = [adjusted_rand_score(truth, model.labels_) for model in full]
    ours = [adjusted_rand_score(truth, nearest(x, centroids)[0]) for centroids in online]
    assert np.mean(ours) >= np.mean(scores) - np.std(scores) - 0.005


def test_an_epoch_of_very_many_rows_is_cut(monkeypatch) -> None:
    rows = Rows([np.zeros((1000, 2), np.float32)])
    all_of_them = np.concatenate([*rows.batches(96, np.random.default_rng(0))])
    assert sorted(all_of_them) == [*range(1000)]
    monkeypatch.setattr("alps.assign.rows.EPOCH", 320)
    some = np.concatenate([*rows.batches(96, np.random.default_rng(0))])
    assert some.tolist() == all_of_them[:320].tolist()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(n: int) -> int:
        path = tmp_path / f"{n}.npy"
        np.save(path, np.random.default_rng(0).standard_normal((n, 16), np.float32))
        blocks = np.array_split(np.load(path, mmap_mode="r"), 10)
        tracemalloc.start()
        fit(*blocks, k=8, niter=2, batch_size=1024)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(160_000) < 1.1 * peak(20_000)
