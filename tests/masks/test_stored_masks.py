"""Labelling again from a store: the same masks, the same features, other classes, no SAM."""

import shutil

import numpy as np
import pytest

from alps.assign.cluster import Cluster
from alps.errors import ImageError, StoreError
from alps.features.sam import SamFeatures
from alps.features.stored import StoredFeatures
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from alps.masks.stored import StoredMasks
from alps.store.files import read_table
from alps.store.label_store import LabelStore
from alps.structures.records import Sample
from tests.fakes import ArrayImages, ColorSegmenter, flat_colors

TILES = {"tile_size": 64, "tile_overlap": 16}


def images(n=5):
    return {f"site/{i}": flat_colors(48 + 8 * i, 64, seed=i) for i in range(n)}


def run(root, arrays, masks, features, k=3):
    store, _ = label(
        image_set=ArrayImages(arrays),
        masks=masks,
        features=features,
        assign=Cluster(k=k),
        engine=LocalEngine(threads=1),
        root=root,
        name="tiny_pl",
        config="",
        shard_size=2,
    )
    return store


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    segmenter = ColorSegmenter()
    masks = AutoMasks(segmenter=segmenter, points_per_side=5, ground=0, **TILES)
    features = SamFeatures(segmenter=segmenter, **TILES)
    return run(tmp_path_factory.mktemp("source") / "store", images(), masks, features)


def test_masks_and_features_are_those_of_the_store(source, tmp_path):
    root = str(source.root)
    store = run(tmp_path / "again", images(), StoredMasks(store=root), StoredFeatures(store=root))
    for shard in range(len(store.plan)):
        name = f"masks/{shard:05d}.parquet"
        assert read_table(store.root / name).equals(read_table(source.root / name))
        np.testing.assert_array_equal(store.shard(shard).features(), source.shard(shard).features())
        np.testing.assert_array_equal(
            store.shard(shard).labels()[0], source.shard(shard).labels()[0]
        )


def test_another_k_and_fewer_images(source, tmp_path):
    root = str(source.root)
    some = {name: image for name, image in images().items() if name != "site/1"}
    store = run(tmp_path / "few", some, StoredMasks(store=root), StoredFeatures(store=root), k=2)
    assert store.info.num_classes == 2
    whole = {i: m for shard in range(3) for i, m in source.shard(shard).masks().items()}
    found = {
        i: m for shard in range(len(store.plan)) for i, m in store.shard(shard).masks().items()
    }
    assert found.keys() == some.keys()
    assert all(found[i].counts == whole[i].counts for i in found)


def test_the_fingerprint_is_of_what_made_the_masks_not_of_the_place(source, tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(source.root)
    here, there = StoredMasks(store=str(source.root)), StoredMasks(store=str(copy))
    assert here.identity == there.identity
    assert here.identity["fingerprint"] == source.info.stages["masks"]["fingerprint"]


def test_superpixels_cover_what_masks_do_not(tmp_path):
    segmenter = ColorSegmenter()
    small = AutoMasks(segmenter=segmenter, points_per_side=5, max_area=0.2, ground=0, **TILES)
    features = SamFeatures(segmenter=segmenter, **TILES)
    root, sample = str(tmp_path / "gaps"), Sample("site/0", images()["site/0"])
    run(tmp_path / "gaps", images(3), small, features, k=1)
    as_they_are, covering = StoredMasks(store=root), StoredMasks(store=root, ground=4)
    uncovered = ~as_they_are(sample).to_array().any(0)
    assert uncovered.any()
    assert covering(sample).counts[: len(as_they_are(sample))] == as_they_are(sample).counts
    assert (~covering(sample).to_array().any(0)).sum() < 0.2 * uncovered.sum()
    assert as_they_are.identity != covering.identity


def test_images_and_masks_that_do_not_match_are_refused(source, tmp_path):
    masks = StoredMasks(store=str(source.root))
    image = images()["site/0"]
    with pytest.raises(ImageError, match=r"site/9 has no masks in .*; label it into a new store"):
        masks(Sample("site/9", image))
    with pytest.raises(
        ImageError,
        match=r"site/0 has \(height, width\) = \(8, 9\), but its masks in .* use the image that",
    ):
        masks(Sample("site/0", np.zeros((8, 9, 3), np.uint8)))
    other = masks(Sample("site/0", image))[np.array([0])]
    with pytest.raises(StoreError, match=r"masks of site/0 are not those of .*features=stored"):
        StoredFeatures(store=str(source.root))(Sample("site/0", image), other)
    hole = Sample("site/0", image, valid=np.indices(image.shape[:2])[0] > 5)
    with pytest.raises(StoreError, match=r"ground=0 \(no-data pixels were removed from its masks"):
        StoredFeatures(store=str(source.root))(hole, masks(hole))


def test_missing_and_incomplete_stores_are_refused(source, tmp_path):
    with pytest.raises(StoreError, match="no label store at"):
        StoredMasks(store=str(tmp_path / "none"))
    broken = tmp_path / "broken"
    shutil.copytree(source.root, broken)
    (broken / "features/00001.npy").unlink()
    (broken / "masks/00002.parquet").unlink()
    with pytest.raises(StoreError, match=r"1 of 3 shards have no masks yet; repeat the label\.py"):
        StoredMasks(store=str(broken))
    with pytest.raises(StoreError, match="1 of 3 shards have no features yet"):
        StoredFeatures(store=str(broken))
    assert LabelStore(broken).missing("masks") == [2]
