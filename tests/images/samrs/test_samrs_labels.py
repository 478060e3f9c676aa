import logging
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from alps.assign.category import ByCategory
from alps.errors import ConfigError, DatasetNotFound, ImageError, LabelError
from alps.export import export_store
from alps.images.boxes.dota import Dota
from alps.images.samrs.boxes import SamrsBoxes, read_rows
from alps.images.samrs.labels import CLASSES, COLORS, SamrsLabels
from alps.images.stored import StoredLabels
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.box import BoxMasks
from alps.protocols import InstanceSet, LabelledSet
from alps.structures import rle
from tests.box_formats import create_dota
from tests.fakes import ColorSegmenter
from tests.ground_truth import SAMRS, create_samrs_subset

N_CLASSES = {"sota": 18, "sior": 20, "fast": 37}


def labels(root, subset="sota"):
    return SamrsLabels(root=str(root), subset=subset)


def boxes(root, subset="sota"):
    return SamrsBoxes(root=str(root), subset=subset)


def label_folder(root, subset="sota"):
    folder, _, _, name, _ = SAMRS[subset]
    return root / folder / name


@pytest.mark.parametrize("subset", SAMRS)
def test_classes_and_colours_are_those_of_mapping_py(subset):
    categories = labels("nowhere", subset).categories()
    assert len(categories) == len({c.name for c in categories}) == N_CLASSES[subset]
    assert [c.color for c in categories] == list(COLORS[: len(categories)])
    assert categories == boxes("nowhere", subset).categories()
    names = {"sota": "small-vehicle", "sior": "golffield", "fast": "C919"}
    ids = {"sota": 9, "sior": 9, "fast": 13}
    assert categories[ids[subset]].name == names[subset]


@pytest.mark.parametrize("subset", SAMRS)
def test_published_maps_are_read(tmp_path, subset):
    truth = create_samrs_subset(tmp_path, subset)
    images = labels(tmp_path, subset)
    assert isinstance(images, LabelledSet)
    assert images.name == subset
    assert images.ignore_index == 255
    records = images.records()
    assert [r.split for r in records] == ["train", "train", "val"]
    for record, (stem, masks) in zip(records, truth.items(), strict=True):
        assert record.image_id == f"{subset}/{stem}"
        target = images.read_target(record)
        assert target.shape == images.read(record).size
        np.testing.assert_array_equal(target == 255, ~np.any(masks, axis=0))
        assert target[masks[-1]].max() == 0  # the last object is on top
    assert f"SAMRS's {subset.upper()}" in images.protocol
    assert f"{N_CLASSES[subset]} classes, pixels outside objects ignored" in images.protocol


@pytest.mark.parametrize("subset", SAMRS)
def test_published_objects_are_read(tmp_path, subset):
    truth = create_samrs_subset(tmp_path, subset)
    images = boxes(tmp_path, subset)
    assert isinstance(images, InstanceSet)
    for i, record in enumerate(images.records()):
        masks = truth[record.image_id.split("/")[1]]
        sample = images.read(record)
        assert sample.dropped == ()
        assert sample.boxes.category_id.tolist() == [i, N_CLASSES[subset] - 1, 0]
        true = images.read_instances(record, sample.boxes[np.array([2, 0])], sample.size)
        np.testing.assert_array_equal(true.to_array(), [masks[2], masks[0]])
        np.testing.assert_array_equal(true.boxes.xyxy, true.xyxy)
        np.testing.assert_array_equal(sample.boxes.quad[:, :2], sample.boxes.xyxy[:, :2])


@pytest.mark.parametrize("prompt", ["hbox", "rhbox"])
def test_exports_in_this_layout_are_read_back(tmp_path, prompt):
    """Store → export → read: maps, boxes, classes and masks."""
    create_dota(tmp_path / "dota", images=("train/P0000", "train/P0001", "val/P0003"))
    dota = Dota(root=str(tmp_path / "dota"))
    store, _ = label(
        image_set=dota,
        masks=BoxMasks(segmenter=CenterColor(), prompt=prompt),
        features=None,
        assign=ByCategory(dota),
        engine=LocalEngine(threads=1),
        root=tmp_path / "dota_seg",
        name="dota_seg",
        config="",
    )
    export_store(store, "samrs", tmp_path / "SOTA")
    for path in (tmp_path / "dota").rglob("*.png"):
        (tmp_path / "SOTA/images").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "SOTA/images")
    stored, maps = StoredLabels(root=str(store.root)), labels(tmp_path)
    ours = {record.image_id.rpartition("/")[2]: record for record in stored.records()}
    theirs = {record.image_id.rpartition("/")[2]: record for record in maps.records()}
    assert ours.keys() == theirs.keys()
    for name, record in theirs.items():
        assert record.split == ours[name].split
        np.testing.assert_array_equal(maps.read_target(record), stored.read_target(ours[name]))
    own = {i: m for s in range(len(store.plan)) for i, m in store.shard(s).masks().items()}
    images = boxes(tmp_path)
    for record in images.records():
        masks = own[ours[record.image_id.rpartition("/")[2]].image_id]
        masks = masks[~masks.boxes.ignore]
        sample = images.read(record)
        np.testing.assert_array_equal(sample.boxes.category_id, masks.boxes.category_id)
        np.testing.assert_allclose(sample.boxes.xyxy, masks.boxes.xyxy, atol=1e-4)
        if prompt == "rhbox":
            np.testing.assert_array_equal(sample.boxes.quad, masks.boxes.quad)
        true = images.read_instances(record, sample.boxes, sample.size)
        assert true.counts == masks.counts


class CenterColor(ColorSegmenter):
    """The mask of a box is what has the colour of its centre."""

    def predict(self, embedding, *, points=None, boxes=None, masks=None, **options):
        return super().predict(embedding, points=(boxes[:, :2] + boxes[:, 2:]) / 2, **options)


def test_images_without_objects_have_no_map_and_are_skipped(tmp_path, caplog):
    create_samrs_subset(tmp_path, "sota")
    (label_folder(tmp_path) / "gray/P0001__1024__0___0.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(labels(tmp_path).records()) == 2
    assert "1 of 3 images of SAMRS's SOTA have no label in gray and are skipped" in caplog.text
    assert len(boxes(tmp_path).records()) == 3


def test_images_without_labels_are_an_error(tmp_path):
    create_samrs_subset(tmp_path, "sior")
    shutil.rmtree(label_folder(tmp_path, "sior"))
    for images, files in ((labels, r"gray/\*.png"), (boxes, r"ins/\*.pkl")):
        with pytest.raises(
            DatasetNotFound,
            match=rf"none of the 3 images of SAMRS's SIOR has a label: found 3 entries .*looked "
            rf"for {files} in hbox_segs_init.*https://github.com/ViTAE-Transformer/SAMRS",
        ):
            images(tmp_path, "sior").records()


def test_missing_images_and_unknown_subsets_are_errors(tmp_path):
    for images in (labels, boxes):
        with pytest.raises(DatasetNotFound, match=r"no images of SAMRS .*fair1m_1024/trainval"):
            images(tmp_path, "fast").records()
        with pytest.raises(ConfigError, match=r"subset=SOTA: choose sota, sior, fast"):
            images(tmp_path, "SOTA")


def rewrite(path, change):
    rows = read_rows(path)
    path.write_bytes(pickle.dumps(change(rows) or rows))


@pytest.fixture
def pkl(tmp_path):
    create_samrs_subset(tmp_path, "sota")
    return label_folder(tmp_path) / "ins/P0000__1024__0___0.pkl"


def test_unusable_boxes_are_reported(tmp_path, pkl):
    def spoil(rows):
        rows[0]["category"] = "boat"
        rows[1]["bbox"] = np.array([9.0, 9.0, 4.0, 4.0])
        rows[2]["bbox"] = [10**400, 0, 1, 1]

    rewrite(pkl, spoil)
    images = boxes(tmp_path)
    sample = images.read(images.records()[0])
    assert len(sample.boxes) == 0
    assert [line.split(":")[0] for line in sample.dropped] == [
        f"{pkl.name} object {i}" for i in range(3)
    ]
    assert "category 'boat' is not one of the 18" in sample.dropped[0]
    assert "is inverted" in sample.dropped[1]
    assert "are not all numbers" in sample.dropped[2]


WHOLE = rle.encode(np.ones((1, 32, 192), bool))[0].decode()  # as many pixels as 64 x 96


@pytest.mark.parametrize(
    "mask",
    [
        None,
        "text",
        {"size": [64, 96]},
        {"size": [64, 95], "counts": "0P`0"},
        {"size": [32, 192], "counts": WHOLE},
        {"size": np.array([96, 64]), "counts": WHOLE},
        {"size": [64, float("inf")], "counts": WHOLE},
        {"size": 64, "counts": WHOLE},
        {"size": [64, 96, 1], "counts": WHOLE},
        {"size": [64, 96], "counts": "5"},
        {"size": [64, 96], "counts": b"5"},
        {"size": [64, 96], "counts": "größe"},
        {"size": [64, 96], "counts": ""},
        {"size": [64, 96], "counts": "oooooooooooooooooooo"},
        {"size": [64, 96], "counts": "\x00\x01"},
    ],
)
def test_invalid_masks_are_logged_and_skipped(tmp_path, pkl, mask, caplog):
    def spoil(rows):
        rows[1]["mask"] = mask

    rewrite(pkl, spoil)
    images = boxes(tmp_path)
    record = images.records()[0]
    sample = images.read(record)
    found = images.read_instances(record, sample.boxes, sample.size)
    assert 1 not in found.boxes.object_id
    assert len(found) == len(sample.boxes) - 1
    assert "skipped a ground-truth mask" in caplog.text
    assert "0.pkl object 1: " in caplog.text


def test_the_message_about_a_mask_of_another_image_names_both_sizes(tmp_path, pkl, caplog):
    def spoil(rows):
        rows[1]["mask"] = {"size": [32, 192], "counts": WHOLE}

    rewrite(pkl, spoil)
    images = boxes(tmp_path)
    record = images.records()[0]
    sample = images.read(record)
    images.read_instances(record, sample.boxes, sample.size)
    [told] = caplog.messages
    assert told.endswith(
        "0.pkl object 1: its size is 32 x 192 pixels, the size of the image 64 x 96"
    )
    assert len(sample.boxes) == 3  # the box is used


def test_a_file_with_other_content_is_refused(tmp_path, pkl):
    pkl.write_bytes(pickle.dumps({"mask": 1}))
    images = boxes(tmp_path)
    record = images.records()[0]
    with pytest.raises(ImageError, match=r"0.pkl contains a dict, expected a list with a dict per"):
        images.read(record)
    pkl.unlink()
    with pytest.raises(ImageError, match=r"cannot read .*0.pkl"):
        images.read(record)


def test_changed_objects_change_the_record(tmp_path, pkl):
    before = boxes(tmp_path).records()
    rewrite(pkl, lambda rows: rows[:2])
    after = boxes(tmp_path).records()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_labels_are_read_from_gray(tmp_path):
    create_samrs_subset(tmp_path, "sota")
    images = labels(tmp_path)
    record = images.records()[0]
    path = label_folder(tmp_path) / "gray/P0000__1024__0___0.png"
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(path)
    with pytest.raises(LabelError, match=r"mode RGB, expected an index map"):
        images.read_target(record)


def test_all_classes_have_a_colour():
    assert max(map(len, CLASSES.values())) == len(COLORS) == 37
