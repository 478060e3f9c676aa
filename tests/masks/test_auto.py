import numpy as np
import pytest
import torch
from segment_anything.utils.amg import build_point_grid

from alps.errors import Unavailable
from alps.masks.auto import AutoMasks
from alps.sam.protocol import Prediction
from alps.structures.records import Sample
from alps.structures.tiles import Tile
from tests.fakes import ColorSegmenter, flat_colors


def as_set(masks):
    return {m.tobytes() for m in masks.to_array()}


def flat_regions(image):
    colors = np.unique(image.reshape(-1, 3), axis=0)
    return [np.all(image == color, axis=-1) for color in colors]


@pytest.mark.parametrize("size", [(96, 96), (96, 130), (200, 64)])
def test_masks_follow_the_pixels_of_images_of_any_shape(size):
    """Not square, larger than a tile: the predecessor broke on both."""
    image = flat_colors(*size, seed=1)
    masks = AutoMasks(
        segmenter=ColorSegmenter(),
        points_per_side=12,
        stability_score_thresh=0.5,
        ground=0,
        box_nms_thresh=1.0,
        tile_size=96,
        tile_overlap=32,
    )(Sample("x", image))
    assert masks.size == size
    for mask in masks.to_array():
        iou = max((mask & region).sum() / (mask | region).sum() for region in flat_regions(image))
        assert iou > 0.8  # the fake sees pixels of the small input
    assert masks.to_array().any(0).mean() > 0.95


def test_the_grid_is_segment_anythings():
    for side in range(1, 65):
        masks = AutoMasks(segmenter=ColorSegmenter(), points_per_side=side)
        expected = np.asarray(build_point_grid(side) * (300, 200), np.float32)
        np.testing.assert_array_equal(masks._points(Tile(7, 9, 307, 209), layer=0), expected)


def test_batches_change_nothing():
    image = flat_colors(80, 100, seed=2)
    one = AutoMasks(segmenter=ColorSegmenter(), points_per_side=6, points_per_batch=36)
    many = AutoMasks(segmenter=ColorSegmenter(), points_per_side=6, points_per_batch=5)
    a, b = one(Sample("x", image)), many(Sample("x", image))
    assert a.counts == b.counts
    np.testing.assert_array_equal(a.point_coords, b.point_coords)


def test_area_gate_and_thresholds():
    image = np.zeros((64, 64, 3), np.uint8)
    image[10:14, 10:14] = 200
    options = {"segmenter": ColorSegmenter(), "points_per_side": 16, "ground": 0}
    whole = AutoMasks(**options)(Sample("x", image))
    assert sorted(whole.area.tolist()) == [16, 64 * 64 - 16]
    assert AutoMasks(**options, max_area=0.3)(Sample("x", image)).area.tolist() == [16]
    assert AutoMasks(**options, min_area=0.1)(Sample("x", image)).area.tolist() == [64 * 64 - 16]
    assert len(AutoMasks(**options, pred_iou_thresh=0.96)(Sample("x", image))) == 0


def test_superpixels_cover_what_masks_do_not():
    sample = Sample("x", flat_colors(64, 64, seed=2))
    options = {"segmenter": ColorSegmenter(), "points_per_side": 4, "max_area": 0.3}
    some, all_of_it = (AutoMasks(**options, ground=side)(sample) for side in (0, 8))
    assert all_of_it.counts[: len(some)] == some.counts
    assert some.to_array().any(0).mean() < 0.9 < 0.99 < all_of_it.to_array().any(0).mean()


def test_prompts_are_in_image_coordinates():
    image = flat_colors(96, 200, seed=3)
    options = {"points_per_side": 8, "tile_size": 96, "tile_overlap": 32, "ground": 0}
    find = AutoMasks(segmenter=ColorSegmenter(), **options)
    masks = find(Sample("x", image))
    dense = masks.to_array()
    inside = [dense[i][int(y), int(x)] for i, (x, y) in enumerate(masks.point_coords)]
    assert np.mean(inside) > 0.9
    assert masks.point_coords[:, 0].max() > 76  # beyond the first tile


def test_identity_names_every_setting_and_the_segmenter():
    identity = AutoMasks(segmenter=ColorSegmenter(), points_per_side=9).identity
    assert identity["points_per_side"] == 9
    assert identity["sam.architecture"] == "color"
    assert {"min_area", "tile_size", "points_per_batch", "source"} <= identity.keys()


class Everything(ColorSegmenter):
    """The mask of each point is the whole image."""

    def predict(self, embedding, *, points, **_):
        n = torch.arange(len(points))
        return Prediction(torch.full((len(n), 64, 64), 20.0), 0.99 - 0.001 * n, n, 0 * n)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (9, 7)])
def test_one_mask_from_many_points_is_there_once_however_thin_the_image(size):
    """SAM's boxes end at the last pixel, so a box one pixel thin has no area."""
    image = np.full((*size, 3), 90, np.uint8)
    masks = AutoMasks(segmenter=Everything(), points_per_side=4)(Sample("x", image))
    assert masks.area.tolist() == [size[0] * size[1]]


def test_crops_of_an_image_of_one_pixel():
    find = AutoMasks(segmenter=Everything(), points_per_side=4, crop_n_layers=2)
    assert find(Sample("x", np.zeros((1, 1, 3), np.uint8))).area.tolist() == [1]


def test_a_batch_that_does_not_fit_into_a_gpu_is_one_error():
    class Crowded(ColorSegmenter):
        def predict(self, embedding, **prompts):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB. GPU 0 has")

    source = AutoMasks(segmenter=Crowded(), points_per_side=4)
    message = r"for 32 prompts at a time \(CUDA out of memory\); set masks.points_per_batch to half"
    with pytest.raises(Unavailable, match=message):
        source(Sample("x", flat_colors(80, 80, seed=1)))
