import logging
import pickle

import jaxtyping
import numpy as np
import pytest
from PIL import Image

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.pixels.folder_pair import FolderPair
from alps.protocols import ImageSet, LabelledSet
from tests.factories import create_folder_pair, create_image, draw_labels


@pytest.fixture
def root(tmp_path):
    create_folder_pair(tmp_path / "pair")
    return tmp_path / "pair"


def test_images_and_targets_of_both_splits_are_read(root):
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


def test_sidecar_files_are_counted(root):
    images = FolderPair(root=str(root))
    assert images.findings() == []
    for name in ("a.tif", "a.aux"):
        (root / "img_dir/train" / name).touch()
    (finding,) = images.findings()
    assert (finding.kind, finding.count) == ("raster_sidecars", 1)


def test_classes_are_counted_in_all_splits(root, caplog):
    Image.fromarray(np.full((64, 96), 4, np.uint8)).save(root / "ann_dir/val/1.png")
    images = FolderPair(root=str(root))
    with caplog.at_level(logging.INFO):
        assert images.protocol == "folder_pair pair: 5 classes, label 255 ignored"
    assert "the highest label is 4, in " in caplog.text
    assert "ann_dir/val/1.png; set dataset.classes=[...]" in caplog.text
    categories = images.categories()
    assert [(c.id, c.name) for c in categories] == [(i, str(i)) for i in range(5)]
    assert len({c.color for c in categories}) == 5
    assert len(caplog.records) == 1


def test_named_classes_need_no_counting(root):
    for path in root.glob("ann_dir/*/*"):
        path.write_bytes(b"")
    images = FolderPair(root=str(root), name="mine", classes=["ground", "roof"], ignore_index=7)
    assert [c.name for c in images.categories()] == ["ground", "roof"]
    assert images.protocol == "mine pair: 2 classes, label 7 ignored"
    with pytest.raises(LabelError, match=r"cannot read .*train/0\.png: "):
        images.read_target(images.records()[0])


def test_the_ignored_label_is_not_counted(root):
    with pytest.raises(LabelError, match=r"contains the label 255, but no file contains 4; "):
        FolderPair(root=str(root), ignore_index=3).categories()
    assert len(FolderPair(root=str(root), ignore_index=255).categories()) == 4


def test_two_labels_of_one_image_are_refused(root):
    label = root / "ann_dir/train/0.png"
    label.with_suffix(".tif").write_bytes(label.read_bytes())
    with pytest.raises(
        LabelError, match=r"0\.png and .*0\.tif are labels of the same image; remove"
    ):
        FolderPair(root=str(root)).records()


def write_labels(root, change):
    """Change each label file; ``change`` gets its place and its numbers."""
    for i, path in enumerate(sorted(root.glob("ann_dir/*/*"))):
        with Image.open(path) as image:
            labels = np.array(image)
        Image.fromarray(change(i, labels)).save(path)


def halves(i, labels):
    """0 and 255 in all files together, and only one of them in some."""
    labels[:] = 255 * (i % 2)
    labels[:8] = 255 * (i == 2)
    return labels


@pytest.mark.parametrize("options", [{}, {"classes": ["ground", "roof"]}, {"ignore_index": 254}])
def test_in_masks_of_0_and_255_the_latter_is_class_1(root, caplog, options):
    write_labels(root, halves)
    images = FolderPair(root=str(root), **options)
    assert images.protocol == "folder_pair pair: 2 classes, labels 0 and 255"
    assert [c.name for c in images.categories()] == options.get("classes", ["0", "1"])
    found = [np.unique(images.read_target(record)).tolist() for record in images.records()]
    assert found == [[0], [0, 1], [0, 1], [0, 1]]
    (record,) = caplog.records
    expected = f"{root}: every label file contains only 0 and 255; 255 is read as class 1"
    assert record.getMessage() == expected
    copy = pickle.loads(pickle.dumps(images))  # as a loader's process gets it
    assert copy.read_target(images.records()[1]).max() == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda i, labels: halves(i, labels) if i < 3 else labels // 255, {}),  # a 1 in the last
        (lambda i, labels: labels * 0, {}),
        (lambda i, labels: labels * 0 + 255, {}),
        (halves, {"ignore_index": 0}),
        (halves, {"classes": ["ground", "roof", "tree"]}),
        (halves, {"reduce_zero_label": True}),
    ],
)
def test_255_stays_ignored_if_other_values_occur(root, caplog, change, options):
    write_labels(root, change)
    images = FolderPair(root=str(root), **{"classes": ["ground", "roof"], **options})
    assert "255 is read as class 1" not in images.protocol + caplog.text
    for record in images.records():
        assert images.read_target(record).max() in (0, 1, 255)
        assert "labels 0 and 255" not in images.protocol
    assert not caplog.records


def test_masks_with_a_single_value_cannot_be_counted(root):
    write_labels(root, lambda i, labels: labels * 0)
    with pytest.raises(LabelError, match=r"ann_dir contain only 0, expected two classes or"):
        FolderPair(root=str(root)).categories()


def test_labels_from_1_are_reduced_on_request(root):
    write_labels(root, lambda i, labels: np.where(labels == 255, labels, labels + 1))
    expected = (
        r"are 1 to 4, and no file contains 0; dataset.reduce_zero_label=true maps them to the "
        r"classes 0 "
        r"to 3; if 0 is a class .* dataset.classes=\[...\]"
    )
    with pytest.raises(LabelError, match=expected):
        FolderPair(root=str(root)).categories()
    write_labels(root, lambda i, labels: np.where(labels == 2, 0, labels) if i else labels)
    images = FolderPair(root=str(root), reduce_zero_label=True)
    assert len(images.categories()) == 4
    assert images.protocol == "folder_pair pair: 4 classes, labels from 1; 0 and 255 ignored"
    for i, (record, seed) in enumerate(zip(images.records(), (0, 1, 10, 11), strict=True)):
        labels = draw_labels(seed=seed)[1]
        labels[-1] = 255
        if i:
            labels[labels == 1] = 255
        np.testing.assert_array_equal(images.read_target(record), labels)


def test_labels_of_16_bits_are_reduced(root):
    labels = np.full((64, 96), 300, np.uint16)
    labels[0] = 0
    labels[1] = 65535
    path = root / "ann_dir/train/0.png"
    Image.fromarray(labels).save(path)
    images = FolderPair(
        root=str(root), classes=[*map(str, range(300))], ignore_index=65535, reduce_zero_label=True
    )
    record = images.records()[0]
    found = images.read_target(record)
    assert found.dtype == np.uint16
    assert found[:3, 0].tolist() == [65535, 65535, 299]
    images = FolderPair(root=str(root), ignore_index=299, reduce_zero_label=True, classes=["a"])
    with pytest.raises(
        LabelError, match=r"train/0.png contains the label 300, which .* ignored 299;"
    ):
        images.read_target(record)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduce_zero_label": "yes"}, "reduce_zero_label=yes: expected true or false"),
        ({"reduce_zero_label": True, "ignore_index": 0}, "ignore_index=0: with reduce_zero_label="),
        ({"reduce_zero_label": True, "ignore_index": -1}, "expected a number from 1 to 65535"),
    ],
)
def test_contradictory_options_are_refused(root, options, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are the user's
    with pytest.raises(ConfigError, match=message):
        FolderPair(root=str(root), **options)


def test_depth_suffixes_and_names_may_vary(root):
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


def test_a_pickled_set_reads_without_listing(root):
    images = FolderPair(root=str(root))
    record = images.records()[0]
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy.read_target(record), images.read_target(record))


def test_images_without_labels_are_an_error(root):
    for name in ("train/0", "val/1"):
        (root / f"ann_dir/{name}.png").unlink()
    with pytest.raises(
        LabelError,
        match=r"2 of 4 images have no label \(first: img_dir/train/0.jpg, img_dir/val/1.jpg\); "
        rf"expected a \.png or \.tif or \.tiff file with the same relative path below "
        rf"{root}/ann_dir; add",
    ):
        FolderPair(root=str(root)).records()


def test_only_known_splits_are_used(root):
    (root / "img_dir/val").rename(root / "img_dir/test")
    (root / "ann_dir/val").rename(root / "ann_dir/test")
    create_image(root / "img_dir/spare/0.png")
    splits = [record.split for record in FolderPair(root=str(root)).records()]
    assert splits == ["test", "test", "train", "train"]


@pytest.mark.parametrize("there", ["nothing", "empty", "images alone", "no split"])
def test_the_error_about_another_layout_describes_it(tmp_path, there):
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
        rf"ann_dir/{{train,val,test}}/: found {found}; use this layout, .* dataset\.root"
    )
    with pytest.raises(DatasetNotFound, match=pattern):
        FolderPair(root=str(root)).records()
