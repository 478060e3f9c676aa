"""Pooling on the feature grid equals lifting the features to the masks, the reference way."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alps.features.pool import FeatureMap, MaskMeans, interpolation_weights
from alps.sam.upsample import bilinear
from alps.structures.masks import Masks
from alps.structures.tiles import Tile


@pytest.mark.parametrize(("height", "width"), [(128, 128), (128, 80), (37, 128)])
def test_equals_interpolated_features(height, width):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 16, 16)).astype(np.float32)
    masks = rng.random((4, height, width)) < 0.4
    along_y = bilinear(16, height)
    along_x = bilinear(16, width)
    up = F.interpolate(
        torch.from_numpy(features)[None], (height, width), mode="bilinear", align_corners=False
    )[0].numpy()
    expected = np.stack([up[:, m].sum(1) for m in masks])
    weights = [interpolation_weights(torch.from_numpy(m), along_y, along_x) for m in masks]
    found = torch.stack(weights).flatten(1) @ torch.from_numpy(features).flatten(1).T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_rows_sum_to_one_and_padding_is_not_read():
    matrix = bilinear(10, 100, 1 / 8)  # pixels reach beyond the cells
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    assert matrix[-1, -1] == 1


def test_mean_divides_by_area():
    """The predecessor divided by the count of non-zero feature values."""
    features = torch.zeros(8, 8)
    features[:, :4] = 1.0
    mask = torch.ones(64, 64, dtype=torch.bool)
    along = bilinear(8, 64)
    mean = (interpolation_weights(mask, along, along) * features).sum() / mask.sum()
    assert mean.item() == pytest.approx(0.5)


def test_a_window_of_the_mask_is_enough():
    along_y, along_x = bilinear(8, 60), bilinear(10, 80)
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[10:30, 40:75] = torch.rand(20, 35, generator=torch.Generator().manual_seed(0)) < 0.5
    torch.testing.assert_close(
        interpolation_weights(mask[10:30, 40:75], along_y[10:30], along_x[40:75]),
        interpolation_weights(mask, along_y, along_x),
    )


def test_a_map_sums_what_lies_in_a_window_of_its_tile():
    rng = torch.Generator().manual_seed(0)
    along_y, along_x = bilinear(8, 60), bilinear(10, 80)
    cells = torch.randn(8, 10, 3, generator=rng)
    window = torch.rand(20, 35, generator=rng) < 0.5
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[10:30, 40:75] = window
    lifted = torch.einsum("yh,hwc,xw->yxc", along_y, cells, along_x)
    found = FeatureMap(cells, along_y, along_x).sum_inside(window, 10, 40)
    torch.testing.assert_close(found, lifted[mask].sum(0), rtol=1e-4, atol=1e-4)


def test_means_over_tiles_are_means_over_the_image():
    """Tiles of one pixel a cell: the features are then the image itself."""
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(40, 70, 2)).astype(np.float32))
    dense = rng.random((5, 40, 70)) < 0.3
    dense[0, :, :35] = False  # not in the first tile
    means = MaskMeans(Masks.from_array(dense), [2, 1])
    for tile in (Tile(0, 0, 35, 40), Tile(35, 0, 70, 40)):
        cells = image[:, tile.x0 : tile.x1]
        eyes = torch.eye(40), torch.eye(35)
        means.add(tile, [FeatureMap(cells, *eyes), FeatureMap(cells[..., :1], *eyes)])
    both, first = means.means()
    expected = torch.stack([image[torch.from_numpy(mask)].mean(0) for mask in dense])
    torch.testing.assert_close(both, expected)
    torch.testing.assert_close(first, expected[:, :1])
