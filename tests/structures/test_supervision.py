"""Masks and boxes as the detections of supervision, an optional package."""

import sys

import numpy as np
import pytest
from supervision import Detections

from alps.errors import MissingPackage
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.masks import Masks


def two_masks(**columns):
    array = np.zeros((2, 4, 6), dtype=bool)
    array[0, 1:3, 1:4] = array[1, :, 5] = True
    masks = Masks.from_array(array)
    return array, Masks.from_counts(masks.counts, masks.size, **columns)


def two_boxes():
    annotations = [
        Annotation("line 1", "ship", (1, 1, 5, 4), score=0.5, track_id=7),
        Annotation("line 2", "plane", (0, 0, 3, 3), ignore=True),
    ]
    return check_boxes(annotations, {"plane": 0, "ship": 1}, (9, 12))[0]


def test_masks_are_detections():
    array, masks = two_masks(predicted_iou=np.array([0.5, 0.75], np.float32))
    detections = masks.to_supervision(np.array([3, -1]))
    assert isinstance(detections, Detections)
    np.testing.assert_array_equal(detections.xyxy, masks.xyxy)
    np.testing.assert_array_equal(detections.mask, array)
    assert detections.area.tolist() == detections.data["area"].tolist() == [6, 4]
    assert detections.class_id.tolist() == [3, -1]
    assert detections.confidence.tolist() == [0.5, 0.75]
    assert detections.tracker_id is None
    assert detections[detections.class_id == 3].xyxy.tolist() == [[1, 1, 4, 3]]


def test_masks_of_boxes_have_the_classes_and_tracks_of_these():
    _, masks = two_masks(boxes=two_boxes())
    detections = masks.to_supervision()
    assert detections.class_id.tolist() == [1, 0]
    assert detections.tracker_id.tolist() == [7, -1]
    assert detections.confidence is None


def test_no_masks_are_no_detections():
    detections = Masks.empty((4, 6)).to_supervision()
    assert len(detections) == 0
    assert detections.mask.shape == (0, 4, 6)


def test_boxes_are_detections():
    detections = two_boxes().to_supervision()
    assert detections.xyxy.tolist() == [[1, 1, 5, 4], [0, 0, 3, 3]]
    assert detections.mask is None
    assert detections.class_id.tolist() == [1, 0]
    np.testing.assert_array_equal(detections.confidence, np.array([0.5, np.nan], np.float32))
    assert detections.data["ignore"].tolist() == [False, True]
    assert len(Boxes.empty().to_supervision()) == 0


def test_a_class_per_mask_is_required():
    _, masks = two_masks()
    with pytest.raises(ValueError, match="category_id has 3 values for 2 masks"):
        masks.to_supervision(np.arange(3))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(
        MissingPackage, match=r"needs supervision.*pip install -e '.\[supervision\]'"
    ):
        two_boxes().to_supervision()
