from dataclasses import fields

import jaxtyping
import numpy as np
import pytest

from alps.errors import ImageError
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord, Sample


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../b", "a\0b", "a\\b"])
def test_names_that_could_leave_the_store_are_refused(name):
    with pytest.raises(ImageError, match="not a plain relative path"):
        ImageRecord(name, "file.png")


@pytest.mark.parametrize("name", ["x" * 252, "ö" * 126, f"{'x' * 256}/a", "a/" * 1535])
def test_names_too_long_for_a_label_s_file_are_refused(name):
    with pytest.raises(ImageError, match=r"is too long: .* the limits are 3072 and 255; rename"):
        ImageRecord(name, "file.png")


@pytest.mark.parametrize("name", ["x" * 251, "ö" * 125, f"{'x' * 255}/a", "a/" * 1533 + "a"])
def test_names_as_long_as_they_may_be_are_taken(name):
    assert ImageRecord(name, "file.png").image_id == name


def test_masks_index_and_cat():
    dense = np.random.default_rng(0).random((5, 9, 7)) < 0.4
    masks = Masks.from_array(dense)
    np.testing.assert_array_equal(masks.to_array(), dense)
    np.testing.assert_array_equal(masks[np.array([3, 1])].to_array(), dense[[3, 1]])
    keep = np.array([True, False, True, False, True])
    np.testing.assert_array_equal(masks[keep].to_array(), dense[keep])
    both = Masks.cat([masks[np.arange(2)], masks[np.arange(2, 5)]])
    np.testing.assert_array_equal(both.to_array(), dense)
    assert len(masks[np.zeros(5, bool)]) == 0


def five_masks():
    array = np.random.default_rng(0).random((5, 9, 7)) < 0.4
    return array, Masks.from_array(array)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (-1, [4]),
        (np.int64(3), [3]),
        (slice(1, 4), [1, 2, 3]),
        ([4, 0], [4, 0]),
        (np.array([], int), []),
        (np.array([True, False, True, False, False]), [0, 2]),
    ],
)
def test_an_index_selects_masks(index, rows):
    array, masks = five_masks()
    np.testing.assert_array_equal(masks[index].to_array(), array[rows])
    np.testing.assert_array_equal(masks[index].area, masks.area[rows])


def test_iteration_yields_single_masks():
    array, masks = five_masks()
    for mask, expected in zip(masks, array, strict=True):
        np.testing.assert_array_equal(mask.to_array(), expected[None])
    large = masks[masks.area > masks.area.mean()]
    assert 0 < len(large) < 5
    assert large.area.min() > masks.area.mean()


@pytest.mark.parametrize("index", [5, -6, [0, 5]])
def test_an_index_out_of_range_is_an_error(index):
    with pytest.raises(IndexError, match=r"cannot select from 5 masks: index -?[56] is out of"):
        five_masks()[1][index]


def test_a_boolean_array_of_another_length_is_an_error():
    with pytest.raises(
        IndexError,
        match=r"boolean array of shape \(3,\) selects from 5 masks, expected one value for each, "
        r"shape \(5,\)",
    ):
        five_masks()[1][np.ones(3, bool)]


def test_boxes_are_selected_like_masks():
    boxes, _ = check_boxes(
        [Annotation(f"line {i}", "a", (i, 1, i + 2, 5), ignore=i == 1) for i in range(3)],
        {"a": 0},
        (9, 9),
    )
    assert [box.xyxy[0, 0] for box in boxes] == [0, 1, 2]
    assert boxes[~boxes.ignore].object_id.tolist() == [0, 2]
    assert boxes[-1].object_id.tolist() == [2]
    with pytest.raises(IndexError, match="cannot select from 3 boxes: index 3 is out of bounds"):
        boxes[3]


def test_containers_say_what_they_hold():
    track = Annotation("line 1", "a", (1, 1, 4, 5), track_id=3)
    boxes, _ = check_boxes([track], {"a": 0}, (9, 7))
    assert repr(boxes) == "Boxes(n=1, categories=1, ignored=0, tracks=1)"
    one = Masks.from_array(np.ones((1, 9, 7), bool))
    assert repr(remake(one, boxes=boxes)) == (
        "Masks(n=1, size=(9, 7), area=63, boxes=Boxes(n=1, categories=1, ignored=0, tracks=1))"
    )
    assert repr(Masks.empty((9, 7))) == "Masks(n=0, size=(9, 7))"
    sample = Sample("a", np.zeros((9, 7, 3), np.uint8), boxes=boxes, dropped=("x",))
    assert repr(sample) == (
        "Sample('a', size=(9, 7), boxes=Boxes(n=1, categories=1, ignored=0, tracks=1), dropped=1)"
    )


def test_masks_of_two_sizes_do_not_join():
    with pytest.raises(ValueError, match="2 image sizes"):
        Masks.cat([Masks.empty((2, 3)), Masks.empty((3, 2))])


@pytest.fixture
def types_are_the_users(monkeypatch):
    """Outside the tests nothing looks at annotations."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def remake(value, **changes):
    return type(value)(**{f.name: getattr(value, f.name) for f in fields(value)} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": np.zeros((4, 4, 3), np.float32)},
            r"is float32 of shape \(4, 4, 3\), expected RGB",
        ),
        (
            {"image": np.zeros((4, 4), np.uint8)},
            r"is uint8 of shape \(4, 4\), expected RGB as uint8",
        ),
        (
            {"image": np.zeros((3, 4, 4), np.uint8)},
            r"of shape \(3, 4, 4\), .*\(alps.rasters.stretch\)",
        ),
        (
            {"valid": np.ones((4, 4))},
            r"valid of image 'a' is float64 of .*, expected bool of shape",
        ),
        (
            {"valid": np.ones((4, 5), bool)},
            r"is bool of shape \(4, 5\), expected bool of shape \(4, 4\)",
        ),
    ],
)
@pytest.mark.usefixtures("types_are_the_users")
def test_samples_of_another_type_or_shape_are_refused(changes, message):
    with pytest.raises(ImageError, match=message):
        remake(Sample("a", np.zeros((4, 4, 3), np.uint8)), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (0, 3)}, r"Masks.size is \(0, 3\), expected \(height, width\) in pixels"),
        ({"counts": ("a", "b")}, "Masks.counts must be compressed COCO RLE as bytes"),
        (
            {"counts": (b"a",)},
            r"xyxy is float32 of shape \(2, 4\), expected float32 of shape \(1, 4",
        ),
        (
            {"xyxy": np.zeros((2, 4))},
            r"Masks.xyxy is float64 .*, expected float32 of shape \(2, 4\)",
        ),
        (
            {"area": np.ones(2, np.float32)},
            r"Masks.area is float32 .*, expected int64 of shape \(2,\)",
        ),
        ({"area": np.array([3, -1])}, "Masks.area contains -1, expected >= 0 pixels"),
        ({"predicted_iou": [0.5, 0.5]}, r"Masks.predicted_iou is list, expected float32 of shape"),
        ({"stability_score": np.ones((2, 1), np.float32)}, r"of shape \(2, 1\), expected float32"),
        ({"point_coords": np.ones(2, np.float32)}, r"of shape \(2,\), expected .* shape \(2, 2\)"),
        ({"boxes": Boxes.empty()}, "Masks.boxes has 0 rows, counts has 2"),
    ],
)
@pytest.mark.usefixtures("types_are_the_users")
def test_masks_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        remake(Masks.from_array(np.ones((2, 3, 3), bool)), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"xyxy": np.zeros((1, 5), np.float32)},
            r"Boxes.xyxy is float32 of shape \(1, 5\), expected",
        ),
        ({"category_id": np.zeros(1)}, r"Boxes.category_id is float64 .*, expected int32 of shape"),
        ({"ignore": np.zeros(1, np.uint8)}, r"Boxes.ignore is uint8 .*, expected bool of shape"),
        ({"text": ()}, "Boxes.text has 0 rows, xyxy has 1"),
        (
            {"xyxy": np.array([[5, 5, 5, 9]], np.float32)},
            "Boxes.xyxy has an empty box, expected x0",
        ),
        ({"xyxy": np.full((1, 4), np.nan, np.float32)}, "Boxes.xyxy has an empty box"),
    ],
)
@pytest.mark.usefixtures("types_are_the_users")
def test_boxes_that_contradict_themselves_are_refused(changes, message):
    boxes, _ = check_boxes([Annotation("line 1", "a", (1, 1, 4, 5))], {"a": 0}, (9, 9))
    with pytest.raises(ValueError, match=message):
        remake(boxes, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": -1}, "Category.id is -1, expected a pixel value, 0 to 65534"),
        ({"id": 65535}, "Category.id is 65535, expected a pixel value"),
        ({"name": None}, "Category.name is None, expected text"),
        ({"color": (0, 0)}, r"Category.color is \(0, 0\), expected red, green, blue, 0 to 255"),
        ({"color": (0, 0, 256)}, r"Category.color is \(0, 0, 256\), expected red"),
    ],
)
@pytest.mark.usefixtures("types_are_the_users")
def test_classes_that_cannot_be_painted_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        remake(Category(0, "water", (0, 0, 255)), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 7}, "image_id 7 is not a plain relative path"),
        ({"bytes": -1}, "bytes of image 'a' is -1, expected 0 or more"),
        ({"frame_index": -3}, "frame_index of image 'a' is -3, expected 0 or more"),
    ],
)
@pytest.mark.usefixtures("types_are_the_users")
def test_records_that_name_no_image_are_refused(changes, message):
    with pytest.raises(ImageError, match=message):
        remake(ImageRecord("a", "a.png"), **changes)
