import cv2
import numpy as np
import pytest

from alps.errors import ConfigError
from alps.features.shape import ShapeFeatures
from alps.structures.masks import Masks
from alps.structures.records import Sample


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return Sample("x", rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_colors_are_labs_mean_and_standard_deviation():
    sample = noise(60, 50)
    dense = np.random.default_rng(1).random((4, 60, 50)) < 0.2
    found = ShapeFeatures(color=100.0)(sample, Masks.from_array(dense))
    lab = cv2.cvtColor(sample.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    expected = [np.concatenate([lab[mask].mean(0), lab[mask].std(0)]) for mask in dense]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_known_shapes():
    y, x = np.mgrid[:256, :256]
    dense = np.stack(
        [
            (y - 128) ** 2 + (x - 128) ** 2 < 60**2,  # a disk
            (y - 128) ** 2 + (2 * (x - 128)) ** 2 < 120**2,  # an ellipse, twice as high as wide
            (abs(y - 128) < 50) & (abs(x - 128) < 50),
            (y == 7) & (x < 100),
            np.ones((256, 256), bool),
        ]
    )
    dense = np.concatenate([dense, dense[1:2].transpose(0, 2, 1)])  # and wider than high
    area, elongation, solidity = ShapeFeatures(color=0.0, shape=1.0)(
        noise(256, 256), Masks.from_array(dense)
    ).T
    np.testing.assert_allclose(area, np.log2(dense.sum((1, 2))) / 16, rtol=1e-6)
    np.testing.assert_allclose(elongation, [0, 0.5, 0, 0.99, 0, 0.5], atol=0.01)
    np.testing.assert_allclose(solidity, [1, 1, 3 / np.pi, 3 / np.pi, 3 / np.pi, 1], atol=0.01)


def test_a_disk_with_a_hole_is_less_solid():
    y, x = np.mgrid[:100, :100]
    radius = np.hypot(y - 50, x - 50)
    solidity = ShapeFeatures(color=0.0, shape=1.0)(
        noise(100, 100), Masks.from_array(np.stack([radius < 40, (radius > 20) & (radius < 40)]))
    )[:, 2]
    assert solidity[1] < 0.7 < solidity[0]


def test_tiles_change_nothing_and_a_single_pixel_is_finite():
    sample = noise(150, 100)
    dense = np.random.default_rng(1).random((3, 150, 100)) < 0.2
    dense[2] = False
    dense[2, 149, 99] = True
    masks = Masks.from_array(dense)
    whole = ShapeFeatures(shape=1.0)(sample, masks)
    tiled = ShapeFeatures(shape=1.0, tile_size=50, tile_overlap=0)(sample, masks)
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(tiled, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("color", "shape", "channels"), [(2, 0, 6), (0, 1, 3), (1, 1, 9)])
def test_weights_scale_and_nought_leaves_out(color, shape, channels):
    sample, dense = noise(30, 30), np.random.default_rng(1).random((3, 30, 30)) < 0.2
    part = ShapeFeatures(color=float(color), shape=float(shape))
    found = part(sample, Masks.from_array(dense))
    assert part.channels == channels
    assert found.shape == (3, channels)
    both = ShapeFeatures(color=1.0, shape=1.0)(sample, Masks.from_array(dense))
    expected = np.concatenate([color * both[:, :6], shape * both[:, 6:]], axis=1)
    np.testing.assert_allclose(found, expected[:, expected.any(axis=0)], rtol=1e-6)
    assert part(sample, Masks.empty((30, 30))).shape == (0, channels)


def test_an_image_without_data_has_no_rows():
    sample = Sample("x", np.zeros((30, 30, 3), np.uint8), valid=np.zeros((30, 30), bool))
    assert ShapeFeatures(shape=1.0)(sample, Masks.empty((30, 30))).shape == (0, 9)


LIMITS = [[0, 1000], [-5.0, 5.0]]


def banded(height=60, width=50, dtype=np.float32):
    """Noise in two bands; the upper rows have no data."""
    rng = np.random.default_rng(2)
    bands = rng.uniform(0, 1, (2, height, width)) * [[[1000]], [[10]]] - [[[0]], [[5]]]
    valid = np.ones((height, width), bool)
    valid[:9] = False
    bands[:, :9] = np.nan
    return Sample("x", noise(height, width).image, valid=valid, bands=bands.astype(dtype))


def test_bands_are_mean_and_standard_deviation_of_scaled_values():
    sample = banded()
    dense = np.random.default_rng(1).random((4, 60, 50)) < 0.2
    dense[:, :9] = False
    options = {"color": 0.0, "bands": 3.0, "band_limits": LIMITS}
    features = ShapeFeatures(**options)(sample, Masks.from_array(dense))
    scaled = (sample.bands - [[[0]], [[-5]]]) / [[[1000]], [[10]]]
    expected = [
        3 * np.concatenate([scaled[:, mask].mean(1), scaled[:, mask].std(1)]) for mask in dense
    ]
    np.testing.assert_allclose(features, expected, rtol=1e-5)
    tiled = ShapeFeatures(**options, tile_size=10, tile_overlap=0)
    np.testing.assert_allclose(tiled(sample, Masks.from_array(dense)), expected, rtol=1e-5)
    clipped = ShapeFeatures(color=0.0, bands=1.0, band_limits=[[2000, 3000], [-9, -8]])
    np.testing.assert_array_equal(
        clipped(sample, Masks.from_array(dense)), np.tile([0, 1, 0, 0], (4, 1))
    )


def test_bands_are_part_of_the_identity_only_if_they_are_used():
    before = {"features": "shape", "version": 1, "color": 2.0, "shape": 0.0}
    before |= {"tile_size": 1024, "tile_overlap": 128}
    assert ShapeFeatures().identity == ShapeFeatures(band_limits=LIMITS).identity == before
    used = ShapeFeatures(bands=1.0, band_limits=LIMITS)
    assert used.identity == before | {"bands": 1.0, "band_limits": [[0.0, 1000.0], [-5.0, 5.0]]}
    assert (used.channels, ShapeFeatures(band_limits=LIMITS).channels) == (10, 6)


def test_bands_that_cannot_be_used_are_refused():
    with pytest.raises(ConfigError, match=r"features.bands=1 needs the .*; set features.band_limi"):
        ShapeFeatures(bands=1.0)
    with pytest.raises(
        ConfigError, match=r"band_limits=\[\[3, 3\]\]: .*a list of \[minimum, maxim"
    ):
        ShapeFeatures(band_limits=[[3, 3]])
    features, masks = (
        ShapeFeatures(bands=1.0, band_limits=LIMITS),
        Masks.from_array(np.ones((1, 60, 50), bool)),
    )
    with pytest.raises(ConfigError, match=r"has 2 pairs, but image 'x' has 0 bands; set dataset.b"):
        features(noise(60, 50), masks)
