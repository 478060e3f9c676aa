import base64
import io

import numpy as np
import pytest
from PIL import Image

from alps.report.pictures import drawing as pictures
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import paint

RNG = np.random.default_rng(0)


def random_masks(size, n=6):
    masks = np.zeros((n, *size), bool)
    for mask in masks:
        y, x = RNG.integers(0, size[0]), RNG.integers(0, size[1])
        mask[y : y + RNG.integers(1, 30), x : x + RNG.integers(1, 30)] = True
    return Masks.from_array(masks)


@pytest.mark.parametrize("size", [(40, 60), (61, 37), (1, 1)])
def test_a_picture_shows_what_paint_paints(size):
    masks = random_masks(size)
    painted = paint(masks, np.arange(6), 255).astype(int)
    painted[painted == 255] = -1
    np.testing.assert_array_equal(pictures.top_masks(masks, size), painted)


@pytest.mark.parametrize("size", [(13, 20), (40, 7), (120, 180)])
def test_a_picture_of_another_size_samples_the_pixels_below_its_centers(size):
    masks = random_masks((40, 60))
    whole = pictures.top_masks(masks, (40, 60))
    ys = ((np.arange(size[0]) + 0.5) * 40 / size[0]).astype(int)
    xs = ((np.arange(size[1]) + 0.5) * 60 / size[1]).astype(int)
    np.testing.assert_array_equal(pictures.top_masks(masks, size), whole[ys][:, xs])


def test_classes_have_their_colors_and_no_mask_is_no_class():
    top = np.array([[-1, 0], [1, 2]] * 8, np.int32)
    colors = [(9, 9, 200), (1, 2, 3)]
    drawn = pictures.draw_classes(top, np.array([1, 0, -1]), colors)
    assert drawn[0, 1].tolist() == [1, 2, 3]
    assert drawn[1, 0].tolist() == [9, 9, 200]
    uncovered = drawn[(top == -1) | (top == 2)]
    assert (uncovered == uncovered[:, :1]).all()  # gray
    assert len(np.unique(uncovered)) == 2  # hatched


def test_masks_differ_in_color_and_stand_out():
    image = np.full((20, 40, 3), 120, np.uint8)
    top = np.full((20, 40), -1, np.int32)
    top[5:15, 5:15], top[5:15, 20:30] = 0, 1
    drawn = pictures.draw_masks(image, top).astype(int)
    inside, other, outside = drawn[10, 10], drawn[10, 25], drawn[0, 0]
    assert np.abs(inside - other).max() > 40
    assert inside.max() > outside.max() + 40
    assert drawn[5, 10].min() > inside.min()  # the outline


@pytest.mark.parametrize("box", [(0, 0, 4, 4), (50, 30, 60, 40), (0, 0, 60, 40), (30, 0, 31, 40)])
def test_a_cut_out_holds_the_mask_as_it_is_and_grays_the_rest(box):
    x0, y0, x1, y1 = box
    box = np.array(box, np.float32)
    image = np.full((40, 60, 3), (250, 40, 10), np.uint8)
    mask = np.zeros((1, 40, 60), bool)
    mask[0, y0:y1, x0:x1] = True
    cut = pictures.cut_out(image, rle.encode(mask)[0], box).astype(int)
    assert max(cut.shape) == pictures.CUTOUT
    plain = (np.abs(cut - (250, 40, 10)) < 3).all(axis=2)
    gray = (cut == cut[..., :1]).all(axis=2)
    assert (plain | gray).all()
    assert plain.any()
    # The share of the mask in the window is that in the picture, but for the rim.
    tile = pictures.around(box, (40, 60))
    window = mask[0, tile.y0 : tile.y1, tile.x0 : tile.x1]
    assert window.sum() == mask.sum()
    assert abs(plain.mean() - window.mean()) < 0.05


def test_small_images_grow_and_large_ones_shrink():
    assert pictures.picture_size((4000, 2000)) == (640, 320)
    assert pictures.picture_size((224, 112)) == (640, 320)
    assert pictures.picture_size((10, 20)) == (40, 80)
    assert pictures.picture_size((1, 90_000)) == (1, 640)


def test_encoding_is_lossless_where_flat_and_bounded_where_not():
    def decode(uri):
        kind, _, data = uri.partition(",")
        assert kind == "data:image/webp;base64"
        raw = base64.b64decode(data)
        return np.asarray(Image.open(io.BytesIO(raw))), len(raw)

    flat = np.repeat(np.repeat(RNG.integers(0, 255, (4, 5, 3), dtype=np.uint8), 16, 0), 16, 1)
    np.testing.assert_array_equal(decode(pictures.data_uri(flat, 9000, flat=True))[0], flat)
    noise = RNG.integers(0, 255, (200, 300, 3), dtype=np.uint8)
    for limit in (60_000, 20_000, 4_000):
        image, n_bytes = decode(pictures.data_uri(noise, limit))
        assert limit / 8 < n_bytes <= limit
        assert image.shape[1] / image.shape[0] == 1.5
