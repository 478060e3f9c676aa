"""Vertical runs of masks hold the pixels of the masks, whole or in a tile."""

import numpy as np
import pytest

from alps.structures import rle
from alps.structures.column_runs import ColumnRuns
from alps.structures.tiles import Tile

SIZE = (30, 20)


@pytest.fixture
def dense():
    """Noise, a full mask and full columns, whose runs cross columns, an empty mask and a pixel."""
    masks = np.random.default_rng(0).random((6, *SIZE)) < 0.4
    masks[1] = True
    masks[2] = np.arange(20) < 7
    masks[3] = False
    masks[4] = False
    masks[4, 29, 19] = True
    return masks


def draw(runs, size):
    masks = np.zeros((runs.n_masks, *size), int)
    for mask, x, top, bottom in zip(runs.mask, runs.x, runs.top, runs.bottom, strict=True):
        masks[mask, top:bottom, x] += 1
    return masks


@pytest.mark.parametrize("tile", [Tile(0, 0, 20, 30), Tile(3, 5, 12, 29), Tile(19, 0, 20, 1)])
def test_runs_hold_the_pixels_of_each_mask_in_a_tile(dense, tile):
    runs = ColumnRuns.of(rle.encode(dense), SIZE[0]).within(tile)
    inside = dense[:, tile.y0 : tile.y1, tile.x0 : tile.x1]
    assert np.array_equal(draw(runs, tile.size), inside)
    assert np.array_equal(runs.sum(runs.lengths), inside.sum(axis=(1, 2)))


def test_spans_of_all_masks_are_those_of_each(dense):
    counts = rle.encode(dense)
    index, starts, stops = rle.spans_of_all(counts)
    for i, one in enumerate(counts):
        expected = rle.spans(one)
        assert np.array_equal(starts[index == i], expected[0])
        assert np.array_equal(stops[index == i], expected[1])


def test_no_masks_have_no_runs():
    assert ColumnRuns.of([], SIZE[0]).sum(np.zeros(0)).shape == (0,)
