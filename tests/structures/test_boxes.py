from dataclasses import fields

import numpy as np
import pytest

from alps.store.tables import masks_to_table, table_to_masks
from alps.structures import rle
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.masks import Masks

CATEGORIES = {"ship": 0, "plane": 1}


def check(*points, size=(100, 200), category="ship", **more):
    return check_boxes(
        [Annotation(f"line {i}", category, p, **more) for i, p in enumerate(points)],
        CATEGORIES,
        size,
    )


def test_horizontal_and_rotated_boxes_become_rows():
    boxes, problems = check_boxes(
        [
            Annotation("line 1", "plane", (10, 20, 30, 50), ignore=True, text="a"),
            Annotation("line 2", "ship", (50, 10, 70, 30, 50, 50, 30, 30), score=0.5, track_id=7),
        ],
        CATEGORIES,
        (100, 200),
    )
    assert problems == []
    np.testing.assert_array_equal(boxes.xyxy, [[10, 20, 30, 50], [30, 10, 70, 50]])
    np.testing.assert_array_equal(boxes.quad[0], [10, 20, 30, 20, 30, 50, 10, 50])
    np.testing.assert_array_equal(boxes.quad[1], [50, 10, 70, 30, 50, 50, 30, 30])
    assert boxes.category_id.tolist() == [1, 0]
    assert boxes.ignore.tolist() == [True, False]
    assert boxes.track_id.tolist() == [-1, 7]
    assert boxes.text == ("a", None)
    np.testing.assert_array_equal(boxes.score, [np.nan, 0.5])


def test_what_reaches_beyond_the_image_is_clipped_and_its_corners_stay():
    boxes, problems = check((-10, -5, 300, 50), (190, 90, 220, 90, 220, 140, 190, 140))
    assert problems == []
    np.testing.assert_array_equal(boxes.xyxy, [[0, 0, 200, 50], [190, 90, 200, 100]])
    np.testing.assert_array_equal(boxes.quad[1], [190, 90, 220, 90, 220, 140, 190, 140])


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ((10, 20, 30), "3 coordinates, expected 4 (x0 y0 x1 y1) or 8 (four corners)"),
        ((10, 20, float("nan"), 50), "coordinates 10 20 nan 50 are not all numbers"),
        ((10, 20, float("inf"), 50), "coordinates 10 20 inf 50 are not all numbers"),
        ((30, 20, 10, 50), "30 20 10 50 is inverted, expected x0 y0 x1 y1 with x0 < x1, y0 < y1"),
        ((10, 20, 10, 50), "10 20 10 50 is 0 by 30 px, expected 1 by 1 or more"),
        ((10, 200, 30, 250), "10 200 30 250 lies outside the image of 200 by 100 px"),
        ((0, 0.2, 0.5, 0.9), "0 0.2 0.5 0.9 look like fractions of the sides, expected pixels"),
    ],
)
def test_a_box_that_cannot_be_used_is_named_and_the_others_stay(points, why):
    boxes, problems = check((10, 20, 30, 50), points, (50, 20, 60, 50))
    assert problems == [f"line 1: {why}"]
    np.testing.assert_array_equal(boxes.xyxy, [[10, 20, 30, 50], [50, 20, 60, 50]])


def test_corners_beside_a_box_are_checked_as_well():
    boxes, problems = check((10, 20, 30, 50), quad=(10, 20, 30, 20, 30, float("nan"), 10, 50))
    assert len(boxes) == 0
    assert problems == ["line 0: coordinates 10 20 30 20 30 nan 10 50 are not all numbers"]


def test_an_unknown_category_is_named_with_the_known_ones():
    boxes, problems = check((10, 20, 30, 50), category="car")
    assert len(boxes) == 0
    assert problems == ["line 0: category 'car' is not one of the 2: ship, plane"]


def test_a_track_has_one_box_in_a_frame():
    boxes, problems = check((10, 20, 30, 50), (50, 20, 60, 50), track_id=3)
    assert boxes.track_id.tolist() == [3]
    assert problems == ["line 1: track 3 has more than one box in this frame"]


def test_boxes_are_indexed_and_joined():
    boxes, _ = check((10, 20, 30, 50), (50, 20, 60, 50), (70, 20, 90, 50), text="x")
    parts = [boxes[np.array([True, False, False])], boxes[np.array([2, 1])]]
    joined = Boxes.cat(parts)
    np.testing.assert_array_equal(joined.xyxy, boxes.xyxy[[0, 2, 1]])
    assert joined.text == ("x",) * 3
    assert len(Boxes.empty()) == 0
    with pytest.raises(ValueError, match=r"Boxes.text has 0 rows, xyxy has 3"):
        Boxes(**{f: getattr(boxes, f) for f in boxes.__slots__ if f != "text"}, text=())


def test_boxes_travel_with_their_masks():
    boxes, _ = check_boxes(
        [
            Annotation("line 1", "plane", (10, 20, 30, 50), ignore=True, text="a", track_id=4),
            Annotation("line 2", "ship", (50, 10, 70, 30, 50, 50, 30, 30), score=0.5),
        ],
        CATEGORIES,
        (100, 200),
    )
    dense = np.zeros((2, 100, 200), bool)
    dense[0, 20:50, 10:30] = dense[1, 20:40, 40:60] = True
    masks = Masks.from_counts(rle.encode(dense), (100, 200), boxes=boxes)
    table = masks_to_table("x", masks)
    halves = [masks[np.array([0])], masks[np.array([1])]]
    for back in (table_to_masks(table, (100, 200)), Masks.cat(halves)):
        for field in fields(Boxes):
            ours, theirs = (getattr(b, field.name) for b in (back.boxes, boxes))
            np.testing.assert_array_equal(ours, theirs)
    assert table["bbox"].to_pylist() == [[10, 20, 20, 30], [40, 20, 20, 20]]
    assert sorted(table["rbox"][0].as_py()[::2]) == pytest.approx([10, 10, 30, 30], abs=1e-4)
    bare = masks_to_table("x", Masks.from_array(dense))
    assert bare["prompt_box"].null_count == bare["track_id"].null_count == 2
    assert table_to_masks(bare, (100, 200)).boxes is None
