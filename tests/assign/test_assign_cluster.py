"""The cluster assigner: settings, classes, distances."""

import json
from pathlib import Path

import numpy as np
import pytest

from alps.assign.cluster import Cluster
from alps.errors import AlpsError, ConfigError
from alps.paint import paint
from alps.types import Clusters, Masks


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((700, 6)).astype(np.float16)


def test_each_setting_changes_the_identity() -> None:
    made = [Cluster(), Cluster(k=7), Cluster(niter=7), Cluster(batch_size=7), Cluster(seed=7)]
    assert len({json.dumps(assigner.identity) for assigner in made}) == 5
    assert Cluster(k=7).identity == Cluster(k=7).identity
    assert Cluster(k=7).identity["assigner"] == "cluster"


@pytest.mark.parametrize("name", ["k", "niter", "batch_size"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"assign\.{name} must be 1 or more, got 0"):
        Cluster(**{name: 0})


def test_assign_gives_the_nearest_centroid_and_its_distance(features: np.ndarray) -> None:
    assigner = Cluster(k=9, batch_size=64)
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
    category_id, distance = Cluster(k=5).assign(np.repeat(centroids, 9, axis=0), clusters)
    assert category_id.tolist() == np.repeat(np.arange(5), 9).tolist()
    assert not distance.any()


def test_counts_are_those_of_the_assigned_shards(tmp_path: Path, features: np.ndarray) -> None:
    shards = []
    for i, shard in enumerate((features[:100], features[:0], features[100:])):
        np.save(tmp_path / f"{i}.npy", shard)
        shards.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r" if len(shard) else None))
    assigner = Cluster(k=9, batch_size=64)
    clusters = assigner.fit(shards)
    ids = [assigner.assign(shard, clusters)[0] for shard in shards]
    assert [len(part) for part in ids] == [100, 0, 600]
    counts = np.bincount(np.concatenate(ids), minlength=9)
    assert counts.tolist() == clusters.counts.tolist() == sorted(counts.tolist(), reverse=True)


def test_features_that_are_not_finite_get_no_class(features: np.ndarray) -> None:
    clusters = Cluster(k=3).fit([features])
    features[11, 2] = np.nan
    with pytest.raises(AlpsError, match="row 11"):
        Cluster(k=3).assign(features, clusters)


def test_the_first_cluster_is_not_the_background() -> None:
    squares = np.zeros((3, 8, 8), bool)
    squares[0, :2, :2], squares[1, 3:5, :2], squares[2, 6:, 6:] = True, True, True
    features = np.array([[0, 0], [0, 0.1], [5, 5]], np.float32)
    assigner = Cluster(k=2)
    category_id, _ = assigner.assign(features, assigner.fit([features]))
    labels = paint(Masks.from_dense(squares), category_id, ignore_index=255)
    assert category_id.tolist() == [0, 0, 1]
    assert (labels == 0).sum() == 8
    assert (labels == 255).sum() == 64 - 12


@pytest.mark.parametrize(("k", "last"), [(46, "cluster_45"), (101, "cluster_100")])
def test_categories_are_named_and_coloured(k: int, last: str) -> None:
    assigner = Cluster(k=k)
    categories = assigner.categories()
    assert [c.id for c in categories] == list(range(k))
    assert assigner.num_classes == len(categories)
    assert categories[-1].name == last
    assert [c.name for c in categories] == sorted(c.name for c in categories)
    assert len({c.color for c in categories}) == k
