import numpy as np
import pytest

from alps.assign.category import ByCategory
from alps.errors import ConfigError, StoreError
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import Category
from tests.fakes import ArrayImages

CATEGORIES = [Category(0, "ship", (1, 2, 3)), Category(1, "plane", (4, 5, 6))]


class Images:
    name, root = "images", "memory"

    def records(self):
        return []

    def read(self, record):
        raise AssertionError("no pixel is needed")

    def categories(self):
        return CATEGORIES


def masks(*rows):
    """(x0, y0, x1, y1), category and whether it is ignored; the masks fill the boxes."""
    boxes, _ = check_boxes(
        [Annotation("", name, box, ignore=ignore) for box, name, ignore in rows],
        {c.name: c.id for c in CATEGORIES},
        (20, 30),
    )
    dense = np.zeros((len(rows), 20, 30), bool)
    for mask, ((x0, y0, x1, y1), _, _) in zip(dense, rows, strict=True):
        mask[y0:y1, x0:x1] = True
    found = Masks.from_array(dense)
    return Masks(**{f: getattr(found, f) for f in found.__slots__ if f != "boxes"}, boxes=boxes)


def test_a_mask_has_its_box_s_category_and_ignored_ones_none():
    found = masks(((0, 0, 20, 20), "plane", False), ((5, 5, 10, 10), "ship", False),
                  ((12, 5, 18, 10), "ship", True))  # fmt: skip
    assign = ByCategory(Images())
    ids, distance = assign.assign(np.zeros((3, 0), np.float16), None, "x", found)
    assert ids.tolist() == [1, 0, -1]
    assert np.isnan(distance).all()
    index_map = assign.paint(found, ids, 255)
    assert index_map[2, 2] == 1
    assert index_map[7, 7] == 0  # small over large
    assert index_map[7, 15] == 255  # ignored over large, too
    assert index_map[7, 25] == 255
    assert assign.categories() == CATEGORIES
    assert assign.num_classes == 2
    assert assign.identity["classes"] == ["ship", "plane"]


def test_an_image_without_a_box_has_no_class():
    assign = ByCategory(Images())
    ids, _ = assign.assign(np.zeros((0, 0), np.float16), None, "x", Masks.empty((20, 30)))
    assert len(ids) == 0
    assert (assign.paint(Masks.empty((20, 30)), ids, 255) == 255).all()


def test_masks_that_are_of_no_box_are_refused():
    found = Masks.from_array(np.ones((1, 20, 30), bool))
    with pytest.raises(StoreError, match=r"masks of x were not prompted with boxes.*use masks=box"):
        ByCategory(Images()).assign(np.zeros((1, 0), np.float16), None, "x", found)


def test_images_without_categories_are_refused():
    with pytest.raises(ConfigError, match=r"uses the categories of boxes, but arrays has none"):
        ByCategory(ArrayImages({}))
