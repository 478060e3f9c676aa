"""What a user reads of a store, image by image."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import alps
from alps.errors import ConfigError, DatasetNotFound, ImageError, StoreError
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.store.manifest import write_manifest
from alps.store.plan import prepare
from alps.structures.masks import Masks
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors, index_png
from alps.structures.records import ImageRecord

SIZE = (6, 8)
IDS = ["town/a", "town/b", "town/c", "town/d", "town/e"]


def create_store(tmp_path, *, labelled=3, stages=("masks", "features", "assign")):
    """Five images in three shards: b could not be read, c has no masks, e is of split val."""
    rng = np.random.default_rng(0)
    (tmp_path / "images/town").mkdir(parents=True)
    records = [ImageRecord(i, f"{i}.png", "val" if i == "town/e" else "train") for i in IDS]
    store = prepare(
        tmp_path / "town_pl",
        name="town_pl",
        images={"target": "x", "root": str(tmp_path / "images")},
        records=records,
        identities={stage: {} for stage in stages},
        num_classes=3,
        ignore_index=255,
        versions={},
        shard_size=2,
    )
    for number, planned in enumerate(store.plan):
        statuses, masks, labels = [], {}, []
        for record in planned:
            pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / record.file_name)
            n = 0 if record.image_id in ("town/b", "town/c") else 1 + IDS.index(record.image_id)
            status = "failed" if record.image_id == "town/b" else "ok" if n else "empty"
            error = "zero bytes" if status == "failed" else None
            statuses.append(ImageStatus(record.image_id, status, error, *SIZE, n, 0))
            if status != "failed":
                found = Masks.from_array(rng.random((n, *SIZE)) < 0.5)
                masks[record.image_id] = found
                classes = rng.integers(-1, 3, n)
                labels.append(classes)
                png = index_png(paint(found, classes, 255), distinct_colors(3), 255)
                store.write_annotation(record, png)
        shard = store.shard(number)
        n = sum(map(len, masks.values()))
        shard.write_features(rng.random((n, 4)))
        shard.write_masks(statuses, masks)
        if number < labelled and "assign" in stages:
            shard.write_labels(np.concatenate([*labels, np.zeros(0, int)]), None)
    if labelled == 3:
        write_manifest(store)
    return alps.open_store(store.root)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return create_store(tmp_path_factory.mktemp("store"))


def test_images_are_those_of_all_shards(store):
    assert [image.image_id for image in store.images()] == IDS
    assert [image.status for image in store.images("train")] == ["ok", "failed", "empty", "ok"]
    assert [image.image_id for image in store.images("val")] == ["town/e"]
    with pytest.raises(ConfigError, match="town_pl has no split 'test'; choose one of train, val"):
        store.images("test")


def test_an_image_has_the_rows_of_its_shard(store):
    for image in store.images():
        if image.status == "failed":
            continue
        masks, labels = store.masks(image.image_id), store.labels(image.image_id)
        assert len(masks) == len(labels) == len(store.features(image.image_id)) == image.n_masks
        expected = paint(masks, labels, store.info.ignore_index)
        np.testing.assert_array_equal(store.index_map(image.image_id), expected)
    for number, records in enumerate(store.plan):
        rows = [store.features(r.image_id) for r in records if r.image_id != "town/b"]
        np.testing.assert_array_equal(np.concatenate(rows), store.shard(number).features())


def test_an_unknown_image_names_similar_ones(store):
    assert "town/a" in store
    assert "town" not in store
    for read in (store.masks, store.labels, store.index_map, store.features, store.record):
        with pytest.raises(StoreError, match=r"no image 'twn/e'; similar: 'town/e', 'town/d'"):
            read("twn/e")
    with pytest.raises(
        StoreError, match=r"no image 'zzz'; images\(\) lists all 5, starting with 'tow"
    ):
        store.masks("zzz")


@pytest.mark.parametrize("read", ["masks", "labels", "features", "index_map", "image"])
def test_an_image_that_could_not_be_read_says_why(store, read):
    with pytest.raises(ImageError, match=r"town/b has no masks .*when it was labelled \(zero byt"):
        getattr(store, read)("town/b")


def test_what_is_not_made_yet_says_so(tmp_path):
    store = create_store(tmp_path, labelled=1)
    assert len(store.masks("town/e")) == 5
    with pytest.raises(
        StoreError, match=r"town/e has no labels in .*town_pl yet; repeat the label"
    ):
        store.labels("town/e")
    assert repr(store) == (
        f"LabelStore('{store.root}', images=5, splits=['train', 'val'], classes=3, complete=False)"
    )
    with pytest.raises(StoreError, match="2 of 3 shards have no labels yet"):
        store.as_dataset()
    (store.root / "plan.parquet").unlink()
    assert repr(LabelStore(store.root)) == f"LabelStore('{store.root}', classes=3, complete=False)"


def test_a_store_without_classes_says_so(tmp_path):
    store = create_store(tmp_path, labelled=0, stages=("masks", "features"))
    with pytest.raises(StoreError, match="has no labels: its recipe does not include them"):
        store.index_map("town/a")


def test_a_dataset_yields_images_and_index_maps(store):
    dataset = store.as_dataset()
    assert dataset.image_ids == ["town/a", "town/d", "town/e"]
    assert store.as_dataset("val").image_ids == ["town/e"]
    image, target = dataset[1]
    assert (image.dtype, image.shape) == (torch.uint8, (3, *SIZE))
    assert (target.dtype, target.shape) == (torch.int64, SIZE)
    with Image.open(store.image_root / "town/d.png") as file:
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.array(file))
    np.testing.assert_array_equal(target, store.index_map("town/d"))
    images, targets = next(iter(DataLoader(dataset, batch_size=3)))
    assert (images.shape, targets.shape) == ((3, 3, *SIZE), (3, *SIZE))
    again = pickle.loads(pickle.dumps(dataset))  # as workers of a DataLoader get it
    assert torch.equal(again[2][0], dataset[2][0])


def test_images_that_moved_have_a_remedy(tmp_path):
    store = create_store(tmp_path)
    (tmp_path / "images").rename(tmp_path / "moved")
    with pytest.raises(DatasetNotFound, match=r"/images \(no town/a.png\); set .*images=...\)"):
        store.as_dataset()
    found = alps.open_store(store.root, images=tmp_path / "moved")
    assert len(found.as_dataset()) == 3
    Image.new("RGB", (3, 2)).save(tmp_path / "moved/town/a.png")
    with pytest.raises(ImageError, match=r"a.png has .* = \(2, 3\), but had \(6, 8\) when it was"):
        found.image("town/a")


def test_a_store_without_a_reader_says_how_to_open_it(store):
    with pytest.raises(StoreError, match=r"without an image reader; .* alps.open_store\('"):
        LabelStore(store.root).as_dataset()


def test_pixels_without_data_are_black(tmp_path):
    store = create_store(tmp_path)
    rgba = np.full((*SIZE, 4), 200, np.uint8)
    rgba[:, :3, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "images/town/a.png")
    image = store.image("town/a")
    assert not image[:, :3].any()
    assert (image[:, 3:] == 200).all()


def test_index_maps_of_many_classes_have_16_bits(tmp_path):
    store = create_store(tmp_path)
    index_map = np.array([[0, 300], [65535, 255]], np.uint16)
    store.write_annotation(store.record("town/a"), index_png(index_map, [], 65535))
    found = store.index_map("town/a")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, index_map)


def test_a_damaged_index_map_is_named(tmp_path):
    store = create_store(tmp_path)
    (store.root / "ann/train/town/a.png").write_bytes(b"\x89PNG")
    with pytest.raises(StoreError, match=r"cannot read .*ann/train/town/a.png: .*delete the file"):
        store.index_map("town/a")
