"""Compare the masks of a store with ground-truth masks, object by object."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alps.cli.summary import print_instances
from alps.errors import LabelError
from alps.evaluation.objects import LEVELS, SIZES, InstanceScores, score_instances
from alps.masks.valid import keep_data
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.store.shards import Shard
from alps.structures import rle
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord
from tests.factories import create_images

SIZE = (128, 256)


def rectangles(*xyxy):
    dense = np.zeros((len(xyxy), *SIZE), bool)
    for mask, (x0, y0, x1, y1) in zip(dense, xyxy, strict=True):
        mask[y0:y1, x0:x1] = True
    return rle.encode(dense)


TRUE = {
    "a": [(0, 0, 20, 20), (100, 10, 150, 60), (30, 30, 40, 50)],
    "b": [(0, 0, 120, 120)],
    "c": [],
}
FOUND = {
    "a": [(0, 0, 20, 10), (100, 10, 150, 60), (200, 0, 210, 10)],
    "b": [(0, 0, 120, 60)],
    "c": [],
}
IGNORED = {("a", 2)}


class Store(LabelStore):
    """In memory."""

    def __init__(self):
        pass

    plan = ([ImageRecord("a", "a.png"), ImageRecord("b", "b.png")], [ImageRecord("c", "c.png")])

    def shard(self, number):
        return MemoryShard(self.plan[number])


class MemoryShard(Shard):
    def __init__(self, records):
        self.records = records

    def masks(self):
        return {r.image_id: boxed(FOUND[r.image_id], r.image_id) for r in self.records}

    def images(self):
        return [ImageStatus(r.image_id, "ok", None, *SIZE, 0, 0) for r in self.records]


class Truth:
    name, root, has_instances = "truth", "memory", True

    def __init__(self, unknown=()):
        self.unknown = unknown

    def records(self):
        raise AssertionError("the store has them")

    def read(self, record):
        raise AssertionError("no pixel is needed")

    def categories(self):
        return [Category(0, "ship", (1, 2, 3)), Category(1, "plane", (4, 5, 6))]

    def read_instances(self, record, boxes, size):
        known = [(record.image_id, i) not in self.unknown for i in boxes.object_id]
        boxes = boxes[np.array(known, bool)]
        chosen = [TRUE[record.image_id][i] for i in boxes.object_id]
        return Masks.from_counts(rectangles(*chosen), size, boxes=boxes)


def boxed(found, image_id):
    boxes, _ = check_boxes(
        [
            Annotation(f"{i}", ("ship", "plane")[i % 2], box, ignore=(image_id, i) in IGNORED)
            for i, box in enumerate(TRUE[image_id])
        ],
        {"ship": 0, "plane": 1},
        SIZE,
    )
    iou = np.linspace(0.9, 0.5, len(found))
    return Masks.from_counts(rectangles(*found), SIZE, predicted_iou=iou, boxes=boxes)


def test_every_mask_is_compared_with_the_true_mask_of_its_box():
    scores = score_instances(Store(), Truth())
    np.testing.assert_allclose(scores.iou, [0.5, 1.0, 0.5])  # without the ignored one
    assert scores.area.tolist() == [400, 2500, 14400]
    assert scores.mean == pytest.approx(2 / 3)
    assert [scores.of_size(size).tolist() for size in SIZES] == [[0.5], [1.0], [0.5]]
    assert scores.of_category(0).tolist() == [0.5, 0.5]
    assert (scores.image.tolist(), scores.mask_id.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert [scores.fraction_above(level) for level in LEVELS] == [1, 1 / 3, 1 / 3]
    assert (scores.images, scores.empty, scores.ignored, scores.unknown) == (2, 0, 1, 0)
    # Ships reach an IoU of 0.50 and no more, the plane all thresholds.
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.ap75 == pytest.approx(0.5)
    assert scores.ap == pytest.approx((0.1 + 1.0) / 2)
    found = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert found["objects by size"]["large"] == 1
    assert found["by class"]["ship"] == {"objects": 2, "IoU": 0.5, "AP": 0.1}


@pytest.mark.parametrize(("first", "iou"), [(10, [0.5, 1.0, 0.5]), (14, [1.0, 0.5])])
def test_nodata_pixels_count_in_neither_mask(first, iou):
    """Of the 20 columns of the first object 10 hold data, then 6: too few to compare it."""
    valid = np.zeros(SIZE, bool)
    valid[:, first:] = True

    class CutShard(MemoryShard):
        def masks(self):
            found = super().masks()
            return found | ({"a": keep_data(found["a"], valid)} if "a" in found else {})

        def images(self):
            code = rle.encode(valid[None])[0]
            return [replace(s, valid=code) if s.image_id == "a" else s for s in super().images()]

    class Cut(Store):
        def shard(self, number):
            return CutShard(self.plan[number])

    scores = score_instances(Cut(), Truth())
    np.testing.assert_allclose(scores.iou, iou)
    if first == 10:
        assert scores.area.tolist() == [200, 2500, 14400]


def test_without_objects_no_score_is_computed(capsys):
    class Empty(Store):
        plan, root = (Store.plan[1],), Path("store")

    scores = score_instances(Empty(), Truth())
    assert isinstance(scores, InstanceScores)
    assert len(scores.iou) == 0
    assert np.isnan([scores.mean, scores.ap, scores.fraction_above(0.5)]).all()
    assert json.loads(json.dumps(scores.to_json(), allow_nan=False))["IoU"] is None
    print_instances(scores, Empty())
    message, page = capsys.readouterr().out.splitlines()
    assert message.startswith("no object was compared: ")
    assert page.endswith("store/evaluation.html")


def test_objects_without_true_mask_are_counted_and_not_compared():
    scores = score_instances(Store(), Truth({("a", 0)}))
    np.testing.assert_allclose(scores.iou, [1.0, 0.5])
    assert (scores.mask_id.tolist(), scores.unknown, scores.ignored) == ([1, 0], 1, 1)


def test_a_dataset_without_usable_true_masks_is_an_error():
    message = "none of the 3 objects of memory has a valid ground-truth mask; add their"
    with pytest.raises(LabelError, match=message):
        score_instances(Store(), Truth({(i, k) for i in TRUE for k in range(3)}))


def test_evaluation_without_true_masks_is_refused_before_labelling(tmp_path, label):
    create_images(tmp_path / "boxes/images", 1)
    (tmp_path / "boxes/boxes.csv").write_text("image,x0,y0,x1,y1\nimage_0,10,10,40,40\n")
    done = label(
        *("recipe=samrs", "+dataset=table", "dataset.root=boxes", "evaluate=true"),
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: evaluate=true needs ground-truth masks, but no object of dataset=table under boxes "
        "has one; data/README.md describes where to put them\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["boxes"]
