import io

import numpy as np
import pytest
from PIL import Image

from alps.structures import paint as paint_module
from alps.structures.masks import Masks
from alps.structures.paint import (
    count_covered,
    fill_uncovered,
    ignore_index_for,
    ignore_nodata,
    paint,
)
from alps.structures.palette import distinct_colors, index_png


def masks_at(*boxes, size=(20, 30)):
    dense = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(dense, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return Masks.from_array(dense)


def test_small_lies_over_large_in_any_order():
    masks = masks_at((0, 0, 30, 20), (5, 5, 15, 15), (8, 8, 10, 10))
    ids = np.array([7, 8, 9])
    expected = paint(masks, ids, 255)
    assert expected[9, 9] == 9
    assert expected[6, 6] == 8
    assert expected[0, 0] == 7
    for order in ([2, 1, 0], [1, 2, 0], [2, 0, 1]):
        np.testing.assert_array_equal(paint(masks[np.array(order)], ids[order], 255), expected)


def test_equal_areas_the_higher_mask_id_lies_on_top():
    masks = masks_at((0, 0, 10, 10), (5, 0, 15, 10))
    assert paint(masks, np.array([1, 2]), 255)[0, 7] == 2


def test_cluster_zero_is_not_background():
    index_map = paint(masks_at((0, 0, 10, 10)), np.array([0]), 255)
    assert index_map[0, 0] == 0
    assert index_map[19, 29] == 255
    assert (index_map == 255).sum() == 20 * 30 - 100


def test_unlabelled_masks_are_not_drawn():
    masks = masks_at((0, 0, 10, 10), (2, 2, 4, 4))
    index_map = paint(masks, np.array([3, -1]), 255)
    assert index_map[3, 3] == 3


@pytest.mark.parametrize("seed", range(5))
def test_equals_painting_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    dense = rng.random((6, 17, 23)) < rng.random((6, 1, 1))
    masks, ids = Masks.from_array(dense), rng.integers(0, 5, 6)
    reference = np.full((17, 23), 255, np.uint8)
    for i in sorted(range(6), key=lambda i: (-masks.area[i], i)):
        for y, x in zip(*np.nonzero(dense[i]), strict=True):
            reference[y, x] = ids[i]
    np.testing.assert_array_equal(paint(masks, ids, 255), reference)
    assert count_covered(masks) == dense.any(0).sum()


@pytest.mark.parametrize("within", [1, 2, 5, 100])
@pytest.mark.parametrize("strip", [4, 512])
def test_bare_ground_takes_the_value_of_the_nearest_covered_pixel(monkeypatch, within, strip):
    monkeypatch.setattr(paint_module, "STRIP", strip)
    rng = np.random.default_rng(within)
    dense = np.zeros((5, 19, 23), bool)
    for mask in dense:
        y, x = rng.integers(0, 17), rng.integers(0, 20)
        mask[y : y + 3, x : x + 3] = True
    masks, ids = Masks.from_array(dense), np.array([0, 1, 2, 3, -1])
    index_map = paint(masks, ids, 255)
    before = index_map.copy()
    filled = fill_uncovered(index_map, masks, within)
    assert (index_map == before).all()
    inside = np.argwhere(dense.any(axis=0))
    for y, x in np.ndindex(19, 23):
        far = np.hypot(*(inside - (y, x)).T)
        if dense[:, y, x].any() or far.min() > within:
            assert filled[y, x] == index_map[y, x]
        else:
            assert filled[y, x] in {index_map[tuple(p)] for p in inside[far == far.min()]}


def test_filling_closes_slivers_but_no_wide_gap_and_no_rejected_mask():
    masks = masks_at((0, 0, 10, 20), (12, 0, 20, 20), (2, 2, 6, 6))
    filled = fill_uncovered(paint(masks, np.array([4, 7, 5]), 255), masks, 2)
    assert set(filled[:, 10]) == {4}
    assert set(filled[:, 11]) == {7}
    assert set(filled[:, 20:22].ravel()) == {7}
    assert set(filled[:, 22:].ravel()) == {255}
    rejected = fill_uncovered(paint(masks, np.array([4, -1, 5]), 255), masks, 2)
    assert set(rejected[:, 11:].ravel()) == {255}


def test_nothing_to_fill():
    masks = masks_at((0, 0, 10, 10))
    index_map = paint(masks, np.array([1]), 255)
    assert fill_uncovered(index_map, masks, 0) is index_map
    empty = Masks.empty((20, 30))
    assert (fill_uncovered(paint(empty, np.zeros(0, int), 255), empty, 5) == 255).all()


def test_more_than_255_classes_need_16_bits():
    assert [ignore_index_for(k) for k in (1, 255, 256, 65535)] == [255, 255, 65535, 65535]
    with pytest.raises(ValueError, match="at most 65535 classes, got 65536"):
        ignore_index_for(65536)
    index_map = paint(masks_at((0, 0, 10, 10)), np.array([300]), 65535)
    assert index_map.dtype == np.uint16
    back = np.array(Image.open(io.BytesIO(index_png(index_map, distinct_colors(301), 65535))))
    np.testing.assert_array_equal(back, index_map)


def test_png_keeps_indices_and_colors():
    index_map = paint(masks_at((0, 0, 10, 10)), np.array([1]), 255)
    colors = distinct_colors(3)
    image = Image.open(io.BytesIO(index_png(index_map, colors, 255)))
    np.testing.assert_array_equal(np.array(image), index_map)
    rgb = np.array(image.convert("RGB"))
    assert tuple(rgb[0, 0]) == colors[1]
    assert tuple(rgb[19, 29]) == (0, 0, 0)


def test_colors_are_distinct():
    colors = np.array(distinct_colors(46), int)
    distance = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert distance[~np.eye(46, dtype=bool)].min() > 20


@pytest.mark.parametrize(
    ("ignore_index", "dtype"), [(255, np.uint8), (65535, np.uint16), (-1, np.int16)]
)
def test_what_is_no_data_is_ignored(ignore_index, dtype):
    index_map = np.array([[0, 1], [2, 3]], np.uint8)
    valid = np.array([[True, False], [False, True]])
    found = ignore_nodata(index_map, valid, ignore_index)
    assert found.tolist() == [[0, ignore_index], [ignore_index, 3]]
    assert found.dtype == dtype
    assert index_map.tolist() == [[0, 1], [2, 3]]
    assert ignore_nodata(index_map, None, ignore_index) is index_map
