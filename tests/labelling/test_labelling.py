"""The whole pipeline on small generated images with the fake segmenter."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alps.assign.baselines import Binary, Random
from alps.assign.cluster import Cluster
from alps.errors import (
    ConfigError,
    ImageError,
    ItemCrashed,
    TooFewMasks,
    WorkersLost,
)
from alps.images.samrs.images import Samrs
from alps.labelling import pipeline as labelling
from alps.labelling.timings import Timings
from alps.store.label_store import LabelStore
from tests.factories import create_samrs
from tests.labelling.small_runs import files, images, run


def test_samrs_in_its_published_layout_is_labelled(tmp_path):
    create_samrs(tmp_path / "samrs")
    images = Samrs(str(tmp_path / "samrs"))
    store = run(tmp_path / "store", images)
    records = [record for shard in store.plan for record in shard]
    assert {r.image_id.split("/")[0] for r in records} == {"sota", "sior", "fast"}
    assert {r.split for r in records} == {"train", "val"}
    for record in records:
        path = tmp_path / f"store/ann/{record.split}/{record.image_id}.png"
        assert np.array(Image.open(path)).shape == images.read(record).size
    assert store.info.images["target"] == "alps.images.Samrs"


def test_every_image_has_an_index_map_of_its_size(reference):
    store = LabelStore(reference)
    all_classes = set()
    for image_id, array in images().items():
        index_map = np.array(Image.open(reference / f"ann/train/{image_id}.png"))
        assert index_map.shape == array.shape[:2]
        classes = set(np.unique(index_map)) - {255}
        assert classes <= set(range(4))
        all_classes |= classes
    assert all_classes == {0, 1, 2, 3}
    assert store.complete
    for shard in range(len(store.plan)):
        n = sum(map(len, store.shard(shard).masks().values()))
        assert len(store.shard(shard).features()) == len(store.shard(shard).labels()[0]) == n


def test_the_index_map_agrees_with_the_tables(reference):
    store = LabelStore(reference)
    ids, _ = store.shard(0).labels()
    (image_id, masks), *_ = store.shard(0).masks().items()
    index_map = np.array(Image.open(reference / f"ann/train/{image_id}.png"))
    smallest = int(masks.area.argmin())
    assert (index_map[masks.to_array()[smallest]] == ids[smallest]).all()
    assert ((index_map == 255) == ~masks.to_array().any(0)).all()


def test_clusters_without_features_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"assign=cluster .*, but features is null; choose .*random"
    ):
        run(tmp_path / "store", images(1), with_features=False)


def test_rejected_masks_are_unlabelled(tmp_path, reference):
    shutil.copytree(reference, tmp_path / "store")
    assign = Cluster(k=4, reject=0.4)
    store = run(tmp_path / "store", images(), assign=assign, overwrite="assign")
    ids = np.concatenate([store.shard(i).labels()[0] for i in range(len(store.plan))])
    clusters = store.clusters()
    assert (ids == -1).sum() == sum(int(0.4 * n) for n in clusters.counts)
    reference_store = LabelStore(reference)
    reference_ids = np.concatenate(
        [reference_store.shard(i).labels()[0] for i in range(len(reference_store.plan))]
    )
    assert (ids[ids >= 0] == reference_ids[ids >= 0]).all()


@pytest.mark.parametrize("assign", [Random(k=4), Binary()])
def test_assigners_without_features_need_no_feature_stage(tmp_path, reference, assign):
    shutil.copytree(reference, tmp_path / "store")
    shutil.copytree(reference, tmp_path / "with_features")
    options = {"assign": assign, "overwrite": "features"}
    store = run(tmp_path / "store", images(), with_features=False, **options)
    assert store.complete
    assert not (tmp_path / "store/features").exists()
    assert not (tmp_path / "store/clusters").exists()
    assert list(store.info.stages) == ["masks", "assign"]
    run(tmp_path / "with_features", images(), **options)
    assert files(tmp_path / "store/ann") == files(tmp_path / "with_features/ann")
    distance = np.concatenate([store.shard(i).labels()[1] for i in range(len(store.plan))])
    assert np.isnan(distance).all()
    assert pq.read_table(tmp_path / "store/labels/00000.parquet")["distance"].null_count
    assert assign.num_classes == store.info.num_classes == len(store.categories())


def test_binary_maps_are_0_inside_and_1_outside_masks(tmp_path):
    store = run(tmp_path / "store", images(), assign=Binary(), with_features=False)
    (image_id, masks), *_ = store.shard(0).masks().items()
    index_map = np.array(Image.open(tmp_path / f"store/ann/train/{image_id}.png"))
    assert ((index_map == 0) == masks.to_array().any(axis=0)).all()
    assert ((index_map == 1) == ~masks.to_array().any(axis=0)).all()


def test_unreadable_images_are_skipped_logged_and_counted(tmp_path, caplog):
    arrays = {**images(3), "site/broken": "truncated after 12 bytes"}
    store = run(tmp_path / "store", arrays)
    statuses = {s.image_id: s for s in store.images()}
    assert statuses["site/broken"].status == "failed"
    assert "truncated after 12 bytes" in statuses["site/broken"].error
    assert [s.status for s in statuses.values()].count("ok") == 3
    assert "skipped site/broken.png" in caplog.text
    assert not (tmp_path / "store/ann/train/site/broken.png").exists()
    assert store.complete


def test_a_dataset_without_readable_image_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=r"none of the 2 images of memory can be read; the first"):
        run(tmp_path / "store", {"a": "zero bytes", "b": "zero bytes"})


def test_an_image_without_masks_is_all_unlabelled(tmp_path):
    arrays = {**images(3), "flat": np.full((64, 64, 3), 7, np.uint8)}
    store = run(tmp_path / "store", arrays, max_area=0.99)
    statuses = store.images()
    assert {s.image_id: s.status for s in statuses}["flat"] == "empty"
    assert (np.array(Image.open(tmp_path / "store/ann/train/flat.png")) == 255).all()


def test_more_classes_than_masks_is_an_error_that_keeps_the_masks(tmp_path):
    with pytest.raises(TooFewMasks, match="500"):
        run(tmp_path / "store", images(2), k=500)
    masks = files(tmp_path / "store/masks")
    assert run(tmp_path / "store", images(2), k=3).complete
    assert files(tmp_path / "store/masks") == masks


def test_300_classes_are_written_in_16_bits(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for i in range(8):  # 64 squares of different colours each
        squares = rng.integers(0, 255, (8, 8, 3), np.uint8)
        arrays[str(i)] = squares.repeat(8, 0).repeat(8, 1)
    store = run(tmp_path / "store", arrays, k=300, points_per_side=8)
    assert store.info.ignore_index == 65535
    maps = [np.array(Image.open(p)) for p in (tmp_path / "store/ann/train").glob("*.png")]
    values = np.unique(maps)
    assert values[values < 65535].max() > 255


def test_the_order_of_records_does_not_affect_the_store(tmp_path, reference):
    run(tmp_path / "store", dict(reversed(images().items())))
    assert files(tmp_path / "store") == files(reference)


def test_the_shard_size_affects_neither_masks_nor_maps(tmp_path, reference):
    """All masks fit into one mini-batch, so even the clusters agree."""
    run(tmp_path / "store", images(), shard_size=6)
    for path in (reference / "ann").rglob("*.png"):
        other = tmp_path / "store" / path.relative_to(reference)
        assert other.read_bytes() == path.read_bytes()


def test_the_error_of_a_lost_shard_names_its_last_image_if_all_were_counted(tmp_path, reference):
    shutil.copytree(reference, tmp_path / "store")
    store = LabelStore(tmp_path / "store")
    (store.root / "masks/00002.parquet").unlink()

    def share(*_arguments, **_options):
        yield 2, 1
        raise ItemCrashed(2, "was killed")

    with pytest.raises(WorkersLost, match=r"shard 2 .*; the cause is site/2\.png or one of the"):
        labelling._run_stages(share, store, Timings(), "masks", lambda _: Timings(), ("masks",))
