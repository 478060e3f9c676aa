import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from alps.errors import DatasetNotFound, LabelError
from alps.images.folder_pair import FolderPair
from alps.types import ImageSet, LabelledSet
from tests.factories import create_folder_pair, create_image, draw_labels


@pytest.fixture
def root(tmp_path):
    create_folder_pair(tmp_path / "pair")
    return tmp_path / "pair"


def test_images_and_targets_of_both_splits(root):
    images = FolderPair(root=str(root))
    assert isinstance(images, ImageSet)
    assert isinstance(images, LabelledSet)
    records = images.records()
    assert [(r.image_id, r.split) for r in records] == [
        ("train/0", "train"),
        ("train/1", "train"),
        ("val/0", "val"),
        ("val/1", "val"),
    ]
    for record, seed in zip(records, (0, 1, 10, 11), strict=True):
        assert record.bytes == (root / record.file_name).stat().st_size
        labels = draw_labels(seed=seed)[1]
        labels[-1] = 255
        np.testing.assert_array_equal(images.read_target(record), labels)
        assert images.read(record).size == labels.shape


def test_classes_are_counted_in_all_splits(root, caplog):
    Image.fromarray(np.full((64, 96), 4, np.uint8)).save(root / "ann_dir/val/1.png")
    images = FolderPair(root=str(root))
    with caplog.at_level(logging.INFO):
        assert images.protocol == "folder_pair pair: 5 classes, label 255 ignored"
    assert "the highest label is 4, in " in caplog.text
    assert "ann_dir/val/1.png; dataset.classes=[...] names them" in caplog.text
    categories = images.categories()
    assert [(c.id, c.name) for c in categories] == [(i, str(i)) for i in range(5)]
    assert len({c.color for c in categories}) == 5
    assert len(caplog.records) == 1


def test_given_classes_need_no_reading(root):
    for path in root.glob("ann_dir/*/*"):
        path.write_bytes(b"")
    images = FolderPair(root=str(root), name="mine", classes=["ground", "roof"], ignore_index=7)
    assert [c.name for c in images.categories()] == ["ground", "roof"]
    assert images.protocol == "mine pair: 2 classes, label 7 ignored"
    with pytest.raises(LabelError, match=r"cannot read .*train/0\.png: "):
        images.read_target(images.records()[0])


def test_the_ignored_label_is_not_counted(root):
    with pytest.raises(LabelError, match=r"holds the label 255, but no file holds 4; "):
        FolderPair(root=str(root), ignore_index=3).categories()
    assert len(FolderPair(root=str(root), ignore_index=255).categories()) == 4


def test_two_labels_of_one_image(root):
    label = root / "ann_dir/train/0.png"
    label.with_suffix(".tif").write_bytes(label.read_bytes())
    with pytest.raises(LabelError, match=r"0\.png and .*0\.tif are labels of one image; remove"):
        FolderPair(root=str(root)).records()


def test_masks_of_0_and_255_are_no_classes(root):
    for path in root.glob("ann_dir/*/*"):
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
    with pytest.raises(LabelError, match=r"no number but 0 and 255 .* as dataset\.ignore_index"):
        FolderPair(root=str(root)).categories()


def test_depth_suffixes_and_names(root):
    labels = draw_labels()[1]
    create_image(root / "img_dir/train/deep/er/a.b.tif")
    create_image(root / "img_dir/train/x.png")
    create_image(root / "img_dir/train/x.tif")
    (root / "ann_dir/train/deep/er").mkdir(parents=True)
    Image.fromarray(labels).save(root / "ann_dir/train/deep/er/a.b.TIF")
    Image.fromarray(labels).save(root / "ann_dir/train/x.png")
    (root / "ann_dir/train/x.txt").write_text("no label")
    images = FolderPair(root=str(root))
    records = {record.image_id: record for record in images.records()}
    assert {"train/deep/er/a.b", "train/x.png", "train/x.tif"} < records.keys()
    for image_id in ("train/deep/er/a.b", "train/x.png", "train/x.tif"):
        np.testing.assert_array_equal(images.read_target(records[image_id]), labels)


def test_a_worker_needs_no_listing(root):
    images = FolderPair(root=str(root))
    record = images.records()[0]
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy.read_target(record), images.read_target(record))


def test_images_without_labels_stop(root):
    for name in ("train/0", "val/1"):
        (root / f"ann_dir/{name}.png").unlink()
    with pytest.raises(
        LabelError,
        match=r"2 of 4 images have no label \(first: img_dir/train/0.jpg, img_dir/val/1.jpg\); "
        rf"expected each below {root}/ann_dir as below img_dir, as \.png or \.tif or \.tiff; add",
    ):
        FolderPair(root=str(root)).records()


def test_only_known_splits_are_used(root):
    (root / "img_dir/val").rename(root / "img_dir/test")
    (root / "ann_dir/val").rename(root / "ann_dir/test")
    create_image(root / "img_dir/spare/0.png")
    splits = [record.split for record in FolderPair(root=str(root)).records()]
    assert splits == ["test", "test", "train", "train"]


@pytest.mark.parametrize("there", ["nothing", "empty", "images alone", "no split"])
def test_another_layout_is_described(tmp_path, there):
    root = tmp_path / "x"
    if there != "nothing":
        root.mkdir()
    if there == "images alone":
        create_image(root / "img_dir/train/0.png")
    if there == "no split":
        create_image(root / "img_dir/0.png")
        (root / "ann_dir").mkdir()
    found = {
        "nothing": "no such folder, in img_dir no such folder",
        "empty": "an empty folder, in img_dir no such folder",
        "images alone": r"1 entries \(img_dir\), in img_dir 1 entries \(train\)",
        "no split": r"2 entries \(ann_dir, img_dir\), in img_dir 1 entries \(0.png\)",
    }[there]
    pattern = (
        rf"no image under {root} in the layout img_dir/{{train,val,test}}/ and "
        rf"ann_dir/{{train,val,test}}/: found {found}; arrange .* dataset\.root"
    )
    with pytest.raises(DatasetNotFound, match=pattern):
        FolderPair(root=str(root)).records()
