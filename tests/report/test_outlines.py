"""Boxes drawn over masks."""

import numpy as np
import pytest
from tiny_stores import draw_boxed, make_boxed_store

from alps.report.counts.statistics import compute_statistics
from alps.report.pictures import outlines
from alps.report.pictures.album import make_album
from alps.structures import rle
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.palette import distinct_colors
from alps.structures.records import ImageRecord

SIZE = (60, 80)


def one(*, ignore=False, quad=(40, 10, 60, 30, 40, 50, 20, 30), scale=4):
    """What is drawn of one object whose mask is the lower right quarter of its box."""
    annotation = Annotation("1", "ship", quad, ignore=ignore)
    boxes, _ = check_boxes([annotation], {"ship": 0}, SIZE)
    mask = np.zeros((1, *SIZE), bool)
    mask[0, 30:50, 40:60] = True
    masks = Masks.from_counts(rle.encode(mask), SIZE, boxes=boxes)
    pictures = {}
    for prompt in ("hbox", "rbox_mask"):
        picture = np.zeros((SIZE[0] * scale, SIZE[1] * scale, 3), np.uint8)
        outlines.draw_boxes(picture, masks, prompt)
        pictures[prompt] = picture.astype(int)
    return pictures


def along(picture, a, b, scale=4):
    """The brightest of the pixels around each of some points between two corners."""
    points = np.linspace(np.array(a) * scale, np.array(b) * scale, 40)[3:-3] - 0.5
    return np.array(
        [picture[int(y) - 1 : int(y) + 3, int(x) - 1 : int(x) + 3].max((0, 1)) for x, y in points]
    )


@pytest.mark.parametrize("scale", [1, 4])
def test_the_box_asked_with_and_the_box_of_the_mask(scale):
    drawn = one(scale=scale)
    white = 255 * outlines.OPACITY
    assert along(drawn["hbox"], (20, 10), (60, 10), scale).min() > 0.65 * white
    assert along(drawn["rbox_mask"], (40, 10), (20, 30), scale).min() > 0.5 * white
    assert along(drawn["hbox"], (38, 14), (24, 28), scale).max() == 0
    assert along(drawn["rbox_mask"], (25, 10), (35, 10), scale).max() == 0
    yellow = along(drawn["rbox_mask"], (40, 45), (40, 35), scale)  # the left side of the mask
    assert yellow[:, 0].min() > 0.5 * white
    assert yellow[:, 2].max() < 0.2 * white


def test_ignored_boxes_are_dashed_and_their_masks_have_no_box():
    drawn = one(ignore=True)["hbox"]
    line = along(drawn, (22, 10), (58, 10)).max(1)
    top = drawn[38:42, 4 * 22 : 4 * 58].max((0, 2))
    assert line.max() > 0.5 * 190 * outlines.OPACITY
    assert 0.2 < (top > 20).mean() < 0.9
    assert drawn[4 * 32 : 4 * 48, 4 * 36 : 4 * 44].max() == 0


def test_pictures_of_a_store_show_them(tmp_path):
    masks = draw_boxed(np.random.default_rng(0), SIZE, 5)
    drawn = {}
    for boxed in (True, False):
        store, scenes = make_boxed_store(
            tmp_path / str(boxed), [(ImageRecord("a", "a.png"), masks)], boxed=boxed
        )
        album = make_album(store, scenes, compute_statistics(store), distinct_colors(3))
        drawn[boxed] = album.images[0]
    assert drawn[True].masks != drawn[False].masks
    assert drawn[True].image == drawn[False].image
    assert drawn[True].classes == drawn[False].classes
