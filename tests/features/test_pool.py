"""Pooling on the feature grid equals lifting the features to the masks, the reference way."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alps.features import pool
from alps.features.pool import Axis, FeatureMap, MaskMeans, axis, cell_weights
from alps.sam.upsample import bilinear
from alps.structures import rle
from alps.structures.column_runs import ColumnRuns
from alps.structures.masks import Masks
from alps.structures.tiles import Tile


def noise(n, height, width):
    """Return masks of noise, a full one and an empty one."""
    masks = np.random.default_rng(0).random((n + 2, height, width)) < 0.4
    masks[n], masks[n + 1] = True, False
    return masks


def runs_of(masks):
    return ColumnRuns.of(rle.encode(masks), masks.shape[1])


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [
        (128, 128, None),
        (128, 80, None),
        (37, 100, None),
        (100, 100, 1 / 9),  # the last cell is not reached
        (100, 100, 1 / 4),  # pixels beyond the last cell
        (10, 7, None),  # more cells than pixels, some of which are not used
        (1, 1, None),
    ],
)
def test_weights_are_masks_times_interpolation_matrices(height, width, scale):
    masks = noise(4, height, width)
    along_y, along_x = (bilinear(16, side, scale).double().numpy() for side in (height, width))
    expected = np.einsum("yj,nyx,xi->nji", along_y, masks.astype(float), along_x)
    weights = cell_weights(runs_of(masks), axis(16, height, scale), axis(16, width, scale))
    np.testing.assert_allclose(weights.toarray().reshape(-1, 16, 16), expected, atol=1e-9)


@pytest.mark.parametrize("at_a_time", [1, 300, 1 << 20])
def test_sums_are_those_of_interpolated_features(at_a_time, monkeypatch):
    monkeypatch.setattr(pool, "WEIGHTS", at_a_time)
    cells = np.random.default_rng(0).normal(size=(12, 16, 5)).astype(np.float32)
    masks = noise(4, 60, 80)
    up = F.interpolate(torch.from_numpy(cells).permute(2, 0, 1)[None], (60, 80), mode="bilinear")[
        0
    ].numpy()
    expected = np.stack([up[:, mask].sum(1) for mask in masks])
    sums = FeatureMap(cells, axis(12, 60), axis(16, 80)).sums(runs_of(masks))
    np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-3)


def test_rows_sum_to_one_and_padding_is_not_read():
    matrix = bilinear(10, 100, 1 / 8)  # pixels reach beyond the cells
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    assert matrix[-1, -1] == 1


def test_equal_axes_are_computed_once():
    assert axis(8, 60) is axis(8, 60)
    assert axis(8, 60) is not axis(8, 61)


def test_means_over_tiles_are_means_over_the_image():
    """Tiles of one pixel a cell: the features are then the image itself."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(40, 70, 2)).astype(np.float32)
    dense = rng.random((5, 40, 70)) < 0.3
    dense[0, :, :35] = False  # not in the first tile
    means = MaskMeans(Masks.from_array(dense), [2, 1])
    for tile in (Tile(0, 0, 35, 40), Tile(35, 0, 70, 40)):
        cells = image[:, tile.x0 : tile.x1]
        axes: tuple[Axis, Axis] = axis(40, 40), axis(35, 35)
        means.add(tile, [FeatureMap(cells, *axes), FeatureMap(cells[..., :1], *axes)])
    both, first = means.means()
    expected = np.stack([image[mask].mean(0) for mask in dense])
    np.testing.assert_allclose(both, expected, atol=1e-6)
    np.testing.assert_allclose(first, expected[:, :1], atol=1e-6)


def test_an_image_without_masks_has_no_means():
    means = MaskMeans(Masks.empty((40, 70)), [2])
    means.add(
        Tile(0, 0, 70, 40), [FeatureMap(np.zeros((5, 7, 2), np.float32), axis(5, 40), axis(7, 70))]
    )
    assert means.means()[0].shape == (0, 2)
