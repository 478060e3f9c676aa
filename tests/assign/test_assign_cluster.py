"""The cluster assigner: settings, classes, distances."""

import inspect
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from alps.assign.cluster import Cluster
from alps.errors import AlpsError, ConfigError
from alps.store.plan import prepare
from alps.structures.masks import Masks
from alps.structures.paint import paint
from alps.structures.records import Clusters, ImageRecord

#: Each setting once, with another value than its default.
SETTINGS: list[dict[str, Any]] = [
    {"k": 7},
    {"niter": 7},
    {"tol": 0.01},
    {"batch_size": 7},
    {"seed": 7},
    {"metric": "spherical"},
    {"pca": 4},
    {"pca": 4, "whiten": True},
    {"pca": 4, "whiten": 0.25},
    {"pca": 4, "channel_groups": [4, 2]},
    {"restarts": 7},
    {"weight": "sqrt_area"},
    {"weight": "none"},
    {"merge": 7},
    {"reject": 0.1},
    {"fill": 7},
]


#: `Cluster` of masks that count the same whatever their areas.
equal_weights = partial(Cluster, weight="none")


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((700, 6)).astype(np.float16)


def test_each_setting_changes_the_identity() -> None:
    made = [Cluster(), *(Cluster(**options) for options in SETTINGS)]
    assert len({json.dumps(assigner.identity) for assigner in made}) == len(SETTINGS) + 1
    every = {name for options in SETTINGS for name in options}
    assert every == inspect.signature(Cluster).parameters.keys()
    assert Cluster(k=7).identity == Cluster(k=7).identity
    assert Cluster(k=7).identity["assigner"] == "cluster"


def test_identities_of_earlier_versions_have_no_tolerance() -> None:
    earlier = Cluster().identity
    assert "tol" not in earlier
    assert Cluster(niter=1).identity == {**earlier, "niter": 1}  # as in assign=alps_paper
    assert Cluster(tol=1e-4).identity["tol"] == 1e-4


@pytest.mark.parametrize("name", ["k", "niter", "batch_size", "restarts", "pca", "merge"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}=0: expected .*integer >= 1"):
        Cluster(**{name: 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "cosine"}, "^metric=cosine: expected euclidean or spherical"),
        ({"weight": "pixels"}, "^weight=pixels: expected none, sqrt_area or area"),
        ({"whiten": True}, "^whiten=true: expected false, or a value for pca as well"),
        ({"k": 5, "merge": 6}, "^merge=6: expected null or an integer >= 1 and <= k=5"),
        ({"reject": 1.0}, "^reject=1.0: expected a fraction of the masks >= 0 and < 1"),
        ({"fill": -1}, "^fill=-1: expected an integer number of pixels >= 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cluster(**options)


def test_assign_gives_the_nearest_centroid_and_its_distance(features: np.ndarray) -> None:
    assigner = equal_weights(k=9, batch_size=64)
    clusters = assigner.fit([features])
    category_id, distance = assigner.assign(features, clusters)
    apart = np.linalg.norm(features[:, None].astype(np.float64) - clusters.centroids, axis=2)
    assert category_id.dtype == np.int32
    assert distance.dtype == np.float32
    assert (category_id == apart.argmin(axis=1)).all()
    np.testing.assert_allclose(distance, apart.min(axis=1), rtol=1e-5)


def test_distance_is_zero_on_a_centroid() -> None:
    centroids = 100 + np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    clusters = Clusters(centroids, np.ones(5, np.int64))
    category_id, distance = equal_weights(k=5).assign(np.repeat(centroids, 9, axis=0), clusters)
    assert category_id.tolist() == np.repeat(np.arange(5), 9).tolist()
    assert not distance.any()


def test_counts_are_those_of_the_assigned_shards(tmp_path: Path, features: np.ndarray) -> None:
    shards = []
    for i, shard in enumerate((features[:100], features[:0], features[100:])):
        np.save(tmp_path / f"{i}.npy", shard)
        shards.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r" if len(shard) else None))
    assigner = equal_weights(k=9, batch_size=64)
    clusters = assigner.fit(shards)
    ids = [assigner.assign(shard, clusters)[0] for shard in shards]
    assert [len(part) for part in ids] == [100, 0, 600]
    counts = np.bincount(np.concatenate(ids), minlength=9)
    assert counts.tolist() == clusters.counts.tolist() == sorted(counts.tolist(), reverse=True)


def test_features_that_are_not_finite_get_no_class(features: np.ndarray) -> None:
    clusters = equal_weights(k=3).fit([features])
    features[11, 2] = np.nan
    with pytest.raises(AlpsError, match="row 11"):
        equal_weights(k=3).assign(features, clusters)


def test_the_first_cluster_is_not_the_background() -> None:
    squares = np.zeros((3, 8, 8), bool)
    squares[0, :2, :2], squares[1, 3:5, :2], squares[2, 6:, 6:] = True, True, True
    features = np.array([[0, 0], [0, 0.1], [5, 5]], np.float32)
    assigner = equal_weights(k=2)
    category_id, _ = assigner.assign(features, assigner.fit([features]))
    labels = paint(Masks.from_array(squares), category_id, ignore_index=255)
    assert category_id.tolist() == [0, 0, 1]
    assert (labels == 0).sum() == 8
    assert (labels == 255).sum() == 64 - 12


@pytest.mark.parametrize(("k", "last"), [(46, "cluster_45"), (101, "cluster_100")])
def test_categories_are_named_and_coloured(k: int, last: str) -> None:
    assigner = equal_weights(k=k)
    categories = assigner.categories()
    assert [c.id for c in categories] == list(range(k))
    assert assigner.num_classes == len(categories)
    assert categories[-1].name == last
    assert [c.name for c in categories] == sorted(c.name for c in categories)
    assert len({c.color for c in categories}) == k


def areas(n: int = 700) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 5000, n)


def test_spherical_ignores_length_and_takes_the_largest_cosine(features: np.ndarray) -> None:
    assigner = equal_weights(k=9, metric="spherical", batch_size=64)
    clusters = assigner.fit([features])
    category_id, distance = assigner.assign(features, clusters)
    np.testing.assert_allclose(np.linalg.norm(clusters.centroids, axis=1), 1, rtol=1e-6)
    x = features.astype(np.float64)
    cosine = x / np.linalg.norm(x, axis=1, keepdims=True) @ clusters.centroids.T
    assert (category_id == cosine.argmax(axis=1)).all()
    np.testing.assert_allclose(distance, np.sqrt(2 - 2 * cosine.max(axis=1)), atol=1e-5)
    longer = features * np.float16(2) ** np.random.default_rng(0).integers(-2, 3, (700, 1))
    again = assigner.fit([longer.astype(np.float16)])
    np.testing.assert_allclose(again.centroids, clusters.centroids, atol=1e-3)


def test_spherical_equals_euclidean_on_normalised_rows_given_centroids(
    features: np.ndarray,
) -> None:
    clusters = equal_weights(k=9, metric="spherical").fit([features])
    rows = features.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    spherical, _ = equal_weights(k=9, metric="spherical").assign(features, clusters)
    euclidean, _ = equal_weights(k=9).assign(rows, clusters)
    assert spherical.tolist() == euclidean.tolist()


def test_all_components_unscaled_change_no_class(features: np.ndarray) -> None:
    plain, turned = equal_weights(k=5, restarts=4), equal_weights(k=5, restarts=4, pca=6)
    ids = [a.assign(features, a.fit([features]))[0] for a in (plain, turned)]
    assert adjusted_rand_score(*ids) > 0.9


def test_a_loud_group_of_channels_does_not_dominate(features: np.ndarray) -> None:
    cluster = Cluster(k=5, pca=2, whiten=0.25, channel_groups=[4, 2])
    areas = np.random.default_rng(0).integers(1, 1000, len(features))
    quiet = features.astype(np.float32)
    loud = np.concatenate([quiet[:, :4], 64 * quiet[:, 4:] + 128], axis=1)
    of_quiet, of_loud = (cluster.assign(x, cluster.fit([x], [areas]))[0] for x in (quiet, loud))
    assert np.mean(of_quiet == of_loud) > 0.99  # but for rounding
    with pytest.raises(ConfigError, match=r"channel_groups=\[4, 1\] has 5 channels.*have 6"):
        Cluster(pca=2, channel_groups=[4, 1]).fit([quiet], [areas])


def test_whitening_finds_groups_that_a_loud_channel_hides() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=800)
    x = np.stack([100 * rng.standard_normal(800), 4 * group + 0.3 * rng.standard_normal(800)], 1)
    found = {
        whiten: adjusted_rand_score(
            group, (a := equal_weights(k=2, pca=2, whiten=whiten)).assign(x, a.fit([x]))[0]
        )
        for whiten in (False, True)
    }
    assert found[True] > 0.9
    assert found[False] < 0.1


@pytest.mark.parametrize("weight", ["sqrt_area", "area"])
def test_centroids_are_the_weighted_means_of_their_masks(weight: str) -> None:
    rng = np.random.default_rng(0)
    group, area = rng.integers(3, size=700), areas()
    x = (10 * np.eye(3)[group] + rng.standard_normal((700, 3)) / 3).astype(np.float16)
    assigner = Cluster(k=3, weight=weight)
    clusters = assigner.fit([x[:100], x[100:]], [area[:100], area[100:]])
    ids, _ = assigner.assign(x, clusters)
    w = area if weight == "area" else np.sqrt(area)
    means = [np.average(x[ids == i].astype(float), 0, w[ids == i]) for i in range(3)]
    np.testing.assert_allclose(clusters.centroids, means, rtol=1e-4, atol=1e-4)
    assert clusters.counts.tolist() == np.bincount(ids).tolist()
    with pytest.raises(ValueError, match=f"weight={weight} needs the areas"):
        assigner.fit([x])


def test_merging_joins_clusters_and_moves_none(features: np.ndarray) -> None:
    fine, coarse = equal_weights(k=30), equal_weights(k=30, merge=6)
    before, after = fine.fit([features]), coarse.fit([features])
    assert after.centroids.tobytes() == before.centroids.tobytes()
    assert after.tree is not None
    assert after.tree.shape == (29, 4)
    small, near = fine.assign(features, before)
    large, far = coarse.assign(features, after)
    assert near.tobytes() == far.tobytes()
    assert all(len(set(large[small == i])) == 1 for i in range(30))
    counts = np.bincount(large, minlength=6)
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)
    assert counts.min() > 0
    assert coarse.num_classes == len(coarse.categories()) == 6


@pytest.mark.parametrize("reject", [0.05, 0.3, 0.99])
@pytest.mark.parametrize("options", [{}, {"metric": "spherical", "pca": 4}, {"merge": 4}])
def test_the_farthest_of_each_cluster_get_no_class(
    features: np.ndarray, reject: float, options: dict
) -> None:
    assigner = equal_weights(k=9, reject=reject, batch_size=4096, **options)
    clusters = assigner.fit([features])
    # One by one, as an image with one mask would: rounding must not move the border.
    parts = [assigner.assign(row[None], clusters) for row in features]
    ids, distance = (np.concatenate(part) for part in zip(*parts, strict=True))
    each = replace(clusters, radius=None, category_id=None)
    cluster, _ = assigner.assign(features, each)
    for i in range(9):
        own, kept = distance[cluster == i], ids[cluster == i] >= 0
        assert (~kept).sum() == int(reject * len(own))
        assert own[kept].max() <= own[~kept].min(initial=np.inf)
    usual = equal_weights(k=9, **options)
    known = ids >= 0
    assert (ids[known] == usual.assign(features, usual.fit([features]))[0][known]).all()


def test_bare_ground_near_a_mask_takes_its_class() -> None:
    square = np.zeros((1, 9, 9), bool)
    square[0, 3:6, 3:6] = True
    masks, ids = Masks.from_array(square), np.array([0])
    assert (equal_weights(k=1).paint(masks, ids, 255) == 0).sum() == 9
    assert (equal_weights(k=1, fill=1).paint(masks, ids, 255) == 0).sum() == 9 + 12


@pytest.mark.parametrize("options", SETTINGS)
def test_clusters_come_back_from_a_store_as_they_were(
    tmp_path: Path, features: np.ndarray, options: dict
) -> None:
    assigner = equal_weights(**{"k": 9, **options})
    clusters = assigner.fit([features], [areas()])
    store = prepare(
        tmp_path / "store",
        name="x",
        images={},
        records=[ImageRecord("a", "a.png")],
        identities={"masks": {}, "features": {}, "assign": assigner.identity},
        num_classes=assigner.num_classes,
        ignore_index=255,
        versions={},
    )
    assert store.clusters() is None
    store.write_clusters(clusters)
    back = store.clusters()
    assert back is not None
    for field in fields(Clusters):
        before, after = getattr(clusters, field.name), getattr(back, field.name)
        assert (before is None) == (after is None)
        assert before is None or (before.dtype == after.dtype and (before == after).all())
    ids, again = (assigner.assign(features, c)[0] for c in (clusters, back))
    assert ids.tobytes() == again.tobytes()
    assert assigner.fit([features], [areas()]).centroids.tobytes() == clusters.centroids.tobytes()


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_end_in_any_order_give_the_bytes_of_one(workers: int) -> None:
    """Parts are done in another order, each by what is unpickled elsewhere."""
    assigner = equal_weights(
        k=5, batch_size=8, weight="area", metric="spherical", pca=4, whiten=True, reject=0.2
    )
    features = np.random.default_rng(0).standard_normal((1500, 6)).astype(np.float16)
    area = np.arange(1, 1501)
    asked = []

    def mapper(task: Callable[[Any], Any], places: Iterable[Any]) -> Iterator[Any]:
        items = list(places)
        asked.append(len(items))
        tasks = [pickle.loads(pickle.dumps(task)) for _ in range(workers)]
        results = {i: tasks[i % workers](items[i]) for i in reversed(range(len(items)))}
        return iter([results[i] for i in range(len(items))])

    here, elsewhere = (assigner.fit([features], [area], m) for m in (map, mapper))
    assert min(asked) == 12
    for field in fields(Clusters):
        a, b = getattr(here, field.name), getattr(elsewhere, field.name)
        assert (a is None and b is None) or a.tobytes() == b.tobytes(), field.name


def test_a_single_part_is_not_sent_elsewhere(features: np.ndarray) -> None:
    def mapper(task: Callable[[Any], Any], places: Iterable[Any]) -> Iterator[Any]:
        raise AssertionError("it is not worth it")

    equal_weights(k=3, pca=2, reject=0.1).fit([features], None, mapper)
