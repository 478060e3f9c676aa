import json
import shutil

import numpy as np
import pytest

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.boxes.coco import Coco
from alps.protocols import ImageSet
from tests.box_formats import create_coco
from tests.images.boxes.boxed import check_objects, read_all, splits


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    return root, create_coco(root)


@pytest.fixture
def root(published, tmp_path):
    return shutil.copytree(published[0], tmp_path / "coco")


def edit(root, change):
    """Write instances.json again."""
    file = json.loads((root / "instances.json").read_text())
    change(file)
    (root / "instances.json").write_text(json.dumps(file))


def test_images_boxes_and_masks(published):
    images = Coco(root=str(published[0]), split="val")
    assert isinstance(images, ImageSet)
    assert splits(images) == {"000000": "val", "000001": "val"}
    assert [(c.id, c.name) for c in images.categories()] == [(0, "ship"), (1, "tree")]
    samples = read_all(images)
    for record in images.records():
        sample, truth = samples[record.image_id], published[1][record.image_id]
        check_objects(sample, truth, ["ship", "tree"])
        masks = images.read_instances(record, sample.boxes, sample.size)
        np.testing.assert_array_equal(masks.to_array(), [o.mask for o in truth])
        np.testing.assert_array_equal(masks.boxes.object_id, sample.boxes.object_id)
    assert images.has_instances


def test_masks_may_be_polygons_or_plain_counts_and_follow_the_boxes(root):
    def change(file):
        first, second, third = file["annotations"][:3]
        first["bbox"] = [500, 1, 20, 20]  # outside, so its mask goes, too
        second["segmentation"] = [[10, 10, 30, 10, 30, 20, 10, 20]]
        third["segmentation"] = {"size": [96, 128], "counts": [96 * 10, 96, 96 * 117]}

    edit(root, change)
    images = Coco(root=str(root))
    record = images.records()[0]
    sample = images.read(record)
    assert sample.boxes.object_id.tolist() == [1, 2, 3]
    assert sample.dropped[0].startswith("instances.json annotation 100: 500 1 520 21 lies outside")
    polygon, column, _ = images.read_instances(record, sample.boxes, sample.size).to_array()
    assert polygon.sum() == polygon[10:20, 10:30].sum() == 200
    assert column.sum() == column[:, 10].sum() == 96


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ([[10, 10, 30, 10]], "a polygon has 4 numbers, expected three corners or more"),
        ([[10, 10, 30, 10, 1e9, 20]], "a corner of a polygon is not a number, or lies far outside"),
        ([[10, 10, 30, 10, "a", 20]], "a polygon is not a list of numbers"),
        ({"counts": [96, 96]}, "its counts contain 192 pixels, not 96 x 128"),
        ({"counts": "7 7"}, "its counts are not a run-length code, or are truncated"),
        ({"counts": "1o"}, "its counts are not a run-length code, or are truncated"),
        ({"counts": "PPPPPPPPPPP0"}, "a run in its counts is longer than any image"),
        ({"counts": "05"}, "its counts hold 5 pixels, the image has 96 x 128 = 12288"),
        (
            {"size": [128, 96], "counts": [128 * 96]},
            "its size is 128 x 96 pixels, the size of the image 96 x 128",
        ),
        ({"size": "", "counts": [128 * 96]}, "its size is not a height and a width"),
        ({"size": [96, 128]}, "expected polygons, or size and counts"),
        (7, "expected polygons, or size and counts"),
    ],
)
def test_an_unusable_true_mask_is_logged_and_the_others_kept(root, shape, line, caplog):
    edit(root, lambda file: file["annotations"][1].update(segmentation=shape))
    edit(root, lambda file: file["annotations"][2].pop("segmentation"))
    images = Coco(root=str(root))
    record = images.records()[0]
    sample = images.read(record)
    masks = images.read_instances(record, sample.boxes, sample.size)
    assert (len(sample.boxes), masks.boxes.object_id.tolist()) == (4, [0, 3])
    [told] = caplog.messages
    assert told.startswith(f"skipped a ground-truth mask: instances.json annotation 101: {line}")


def test_a_file_without_masks_has_no_instances(root):
    edit(root, lambda file: [a.pop("segmentation") for a in file["annotations"]])
    assert not Coco(root=str(root)).has_instances


def test_unusable_objects_are_reported_and_the_others_kept(root):
    def change(file):
        file["annotations"][0]["category_id"] = 8
        file["annotations"][1]["bbox"] = [10, 10, 30]
        file["annotations"][2]["bbox"] = [10, 10, -5, 30]

    edit(root, change)
    sample = read_all(Coco(root=str(root)))["000000"]
    assert sample.boxes.object_id.tolist() == [3]
    assert sample.dropped == (
        "instances.json annotation 100: category '8' is none of the 2: ship, tree",
        "instances.json annotation 101: 3 coordinates, expected 4 (x0 y0 x1 y1) or 8 (four "
        "corners)",
        "instances.json annotation 102: 10 10 5 40 is inverted, expected x0 y0 x1 y1 with x0 < x1, "
        "y0 < y1",
    )


def test_an_image_without_objects_has_no_box(root):
    edit(root, lambda file: file["annotations"].clear())
    assert len(read_all(Coco(root=str(root)))["000000"].boxes) == 0


def test_a_missing_image_costs_only_itself(root):
    (root / "images/000000.jpg").unlink()
    images = Coco(root=str(root))
    lost, there = images.records()
    with pytest.raises(ImageError, match=r"cannot read .*000000.jpg"):
        images.read(lost)
    assert len(images.read(there).boxes) == 4


def test_a_moved_box_changes_the_record(root):
    before = Coco(root=str(root)).records()
    edit(root, lambda file: file["annotations"][-1].update(bbox=[10.25, 10, 20, 20]))
    after = Coco(root=str(root)).records()
    assert [b.image_id for b, a in zip(before, after, strict=True) if b != a] == ["000001"]


def test_the_error_names_what_is_missing(root, tmp_path):
    with pytest.raises(
        DatasetNotFound,
        match=rf"no instances.json under {tmp_path / 'no'}: found no such folder; set "
        r"dataset.annotations to the COCO file",
    ):
        Coco(root=str(tmp_path / "no")).records()
    edit(root, lambda file: file["images"].clear())
    with pytest.raises(DatasetNotFound, match=r"instances.json lists no images"):
        Coco(root=str(root)).records()
    edit(root, lambda file: [file.pop(key) for key in ("images", "categories")])
    with pytest.raises(LabelError, match=r"is not a COCO file: it has no images and no categories"):
        Coco(root=str(root)).records()
    (root / "instances.json").write_text('{"images": [')
    with pytest.raises(LabelError, match=r"cannot read .*instances.json: Expecting value"):
        Coco(root=str(root)).records()
