import numpy as np
import pytest

from alps.features.sam import SamFeatures
from alps.masks.auto import AutoMasks
from alps.structures.masks import Masks
from alps.structures.records import Sample
from tests.fakes import ColorSegmenter, flat_colors


@pytest.mark.parametrize("size", [(96, 96), (96, 60), (60, 96), (300, 140)])
def test_features_are_the_mean_of_what_the_mask_shows(size):
    """The fake's embedding is the image itself, so the feature is the mask's mean colour."""
    image = np.zeros((*size, 3), np.uint8)
    image[:, : size[1] // 2] = (200, 100, 0)
    image[:, size[1] // 2 :] = (0, 50, 250)
    left = np.zeros(size, bool)
    left[:, : size[1] // 2 - 8] = True
    right = np.zeros(size, bool)
    right[:, size[1] // 2 + 8 :] = True
    pool = SamFeatures(segmenter=ColorSegmenter(), tile_size=128, tile_overlap=32)
    found = pool(Sample("x", image), Masks.from_array(np.stack([left, right])))[:, :3]
    np.testing.assert_allclose(found, [[200, 100, 0], [0, 50, 250]], atol=1.0)


def test_the_encoder_runs_once_per_tile_for_masks_and_features():
    segmenter = ColorSegmenter()
    tiles = {"tile_size": 96, "tile_overlap": 32}
    sample = Sample("x", flat_colors(96, 200, seed=0))
    masks = AutoMasks(segmenter=segmenter, points_per_side=4, **tiles)(sample)
    SamFeatures(segmenter=segmenter, **tiles)(sample, masks)
    assert segmenter.embedded == 3


def test_a_permutation_of_masks_permutes_features():
    sample = Sample("x", flat_colors(80, 120, seed=1))
    pool = SamFeatures(segmenter=ColorSegmenter(), tile_size=64, tile_overlap=16)
    masks = Masks.from_array(np.random.default_rng(0).random((40, 80, 120)) < 0.1)
    order = np.random.default_rng(1).permutation(40)
    np.testing.assert_allclose(
        pool(sample, masks[order]), pool(sample, masks)[order], rtol=1e-4, atol=1e-3
    )


def test_no_masks_no_rows():
    pool = SamFeatures(segmenter=ColorSegmenter())
    sample = Sample("x", flat_colors(40, 40, seed=0))
    assert pool(sample, Masks.empty((40, 40))).shape == (0, 256)


def test_normalized_rows_have_the_same_direction_and_length_1():
    sample = Sample("x", flat_colors(80, 120, seed=1))
    masks = Masks.from_array(np.random.default_rng(0).random((4, 80, 120)) < 0.1)
    raw = SamFeatures(segmenter=ColorSegmenter())(sample, masks)
    unit = SamFeatures(segmenter=ColorSegmenter(), normalize=True)(sample, masks)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-5)
