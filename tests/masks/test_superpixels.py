"""Superpixels of uncovered pixels: they cover all but slivers once and follow edges."""

import cv2
import numpy as np
import pytest

from alps.errors import ConfigError
from alps.masks import superpixels
from alps.masks.auto import AutoMasks
from alps.masks.superpixels import add_superpixels
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.tiles import Tile
from tests.fakes import ColorSegmenter


def scene(height=70, width=90):
    """Two materials with a crooked border between them, noise in both."""
    y, x = np.mgrid[:height, :width]
    right = x + 8 * np.sin(y / 9) > width / 2
    rng = np.random.default_rng(0)
    image = np.where(right[..., None], (150, 90, 60), (60, 120, 70)) + rng.integers(
        -6, 7, (height, width, 3)
    )
    return Sample("a", image.astype(np.uint8)), right


def partitions(masks):
    """No pixel in two masks, hardly one in none: that of a sliver."""
    times = masks.to_array().sum(axis=0)
    return times.max() == 1 and (times == 0).mean() < 0.005


def test_an_image_without_masks_is_partitioned():
    sample, _ = scene()
    masks = add_superpixels(Masks.empty(sample.size), sample, 16)
    assert partitions(masks)
    assert 20 <= len(masks) <= 24  # a seed per 16 px in each direction, the first at 8
    assert np.isnan(masks.predicted_iou).all()
    assert np.isnan(masks.point_coords).all()


def test_superpixels_follow_edges_where_squares_do_not():
    sample, right = scene()
    masks = add_superpixels(Masks.empty(sample.size), sample, 16).to_array()

    def impure(regions):
        return sum(min((right & r).sum(), (~right & r).sum()) for r in regions)

    squares = [
        np.pad(np.ones((h, w), bool), ((y, 70 - y - h), (x, 90 - x - w)))
        for y in range(0, 70, 16)
        for x in range(0, 90, 16)
        for h, w in [(min(16, 70 - y), min(16, 90 - x))]
    ]
    assert impure(masks) < 0.2 * impure(squares)


def test_each_superpixel_is_in_one_piece():
    sample, _ = scene()
    for mask in add_superpixels(Masks.empty(sample.size), sample, 8).to_array():
        assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2


def test_superpixels_are_appended_to_unchanged_masks():
    sample, right = scene()
    given = Masks.from_array(np.stack([right, ~right & (np.arange(90) < 10)]))
    masks = add_superpixels(given, sample, 16)
    assert masks.counts[:2] == given.counts
    dense = masks.to_array()
    assert not (dense[2:].any(axis=0) & dense[:2].any(axis=0)).any()
    assert dense.any(axis=0).mean() > 0.98


def test_slivers_stay_uncovered():
    sample, _ = scene()
    uncovered = np.zeros(sample.size, bool)
    uncovered[20, :30] = True  # 30 pixels: less than an eighth of 16 × 16
    uncovered[40:46, 40:46] = True  # 36: more, though no seed of the grid lies in it
    masks = add_superpixels(Masks.from_array(~uncovered[None]), sample, 16)
    assert masks.area.tolist() == [(~uncovered).sum(), 36]


def test_no_superpixels_are_added_to_covered_pixels_or_with_side_0():
    sample, right = scene()
    everything = Masks.from_array(np.ones((1, *sample.size), bool))
    assert add_superpixels(everything, sample, 16).counts == everything.counts
    half = Masks.from_array(right[None])
    assert add_superpixels(half, sample, 0) is half


def test_blocks_leave_no_gap(monkeypatch):
    monkeypatch.setattr(
        superpixels, "BLOCK", 34
    )  # a column of 70 is two such blocks and two pixels
    sample, _ = scene()
    masks = add_superpixels(Masks.empty(sample.size), sample, 16)
    assert partitions(masks)
    assert masks.area.max() < 4 * 16**2


def test_blocks_leave_no_seams(monkeypatch):
    rng = np.random.default_rng(0)
    image = cv2.blur(rng.integers(0, 255, (300, 260, 3), np.uint8), (9, 9))
    sample = Sample("blurred", image)
    whole = add_superpixels(Masks.empty(sample.size), sample, 16)
    monkeypatch.setattr(superpixels, "BLOCK", 100)
    assert {*add_superpixels(Masks.empty(sample.size), sample, 16).counts} == {*whole.counts}


def test_overlapping_windows_have_the_same_superpixels():
    rng = np.random.default_rng(1)
    image = cv2.blur(rng.integers(0, 255, (200, 400, 3), np.uint8), (9, 9))
    inside = []
    for window in (Tile(0, 0, 300, 200), Tile(101, 0, 400, 200)):
        sample = Sample("w", image[:, window.x0 : window.x1].copy(), window=window)
        masks = add_superpixels(Masks.empty(sample.size), sample, 16)
        # Away from both borders by the margin that blocks have.
        x0, x1 = masks.xyxy[:, 0] + window.x0, masks.xyxy[:, 2] + window.x0
        shared = Tile(101 - window.x0, 0, 300 - window.x0, 200)
        inside.append(
            {
                rle.crop(masks.counts[i], 200, shared)
                for i in np.flatnonzero((x0 >= 101 + 64) & (x1 <= 300 - 64))
            }
        )
    assert len(inside[0]) > 20
    assert inside[0] == inside[1]


@pytest.mark.parametrize("side", [-1, 3])
def test_an_invalid_side_is_refused_before_segmenting(side):
    with pytest.raises(
        ConfigError, match=f"^ground={side}: expected 0 or an integer number of pixels >="
    ):
        AutoMasks(segmenter=ColorSegmenter(), ground=side)
