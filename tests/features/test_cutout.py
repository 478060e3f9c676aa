import numpy as np
import pytest

from alps.features.cutout import BATCH, batches_of_cutouts, cut_out
from alps.structures.masks import Masks
from alps.structures.records import Sample

FILL = np.array([10, 20, 30], np.uint8)
RED = np.array([200, 0, 0], np.uint8)


def rectangle(size, y0, y1, x0, x1):
    mask = np.zeros((1, *size), bool)
    mask[0, y0:y1, x0:x1] = True
    return Masks.from_array(mask)


@pytest.mark.parametrize("length", [12, 120, 480])
def test_the_mask_fills_the_middle_whatever_its_size(length):
    """Twice as wide as high; 1.2 times its longer side is the square's."""
    size = (600, 600)
    image = np.full((*size, 3), 77, np.uint8)
    image[50 : 50 + length // 2, 60 : 60 + length] = RED
    masks = rectangle(size, 50, 50 + length // 2, 60, 60 + length)
    square = cut_out(Sample("x", image), masks, 0, side=96, fill=FILL)
    assert (square[28:68, 8:88] == RED).all()
    square[28:68, 8:88] = FILL
    assert (square == FILL).all()


def test_what_lies_in_the_box_but_not_in_the_mask_is_not_seen():
    rng = np.random.default_rng(0)
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 10:50, 10:20] = mask[0, 40:50, 10:50] = True
    image = np.full((64, 64, 3), 120, np.uint8)
    other = image.copy()
    other[10:38, 22:50] = rng.integers(0, 255, (28, 28, 3))
    one, two = (
        cut_out(Sample("x", pixels), Masks.from_array(mask), 0, side=48, fill=FILL)
        for pixels in (image, other)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mask", [(0, 1, 0, 1), (0, 1, 0, 64), (63, 64, 63, 64), (0, 64, 0, 64)])
def test_single_pixels_lines_and_whole_images(mask):
    image = np.full((64, 64, 3), RED)
    square = cut_out(Sample("x", image), rectangle((64, 64), *mask), 0, side=32, fill=FILL)
    assert (square[15:17, 15:17] == RED).all(axis=-1).any()
    assert (square[0] == FILL).all()


def test_batches_are_in_order_and_complete():
    rng = np.random.default_rng(0)
    sample = Sample("x", rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    masks = Masks.from_array(rng.random((BATCH + 3, 40, 40)) < 0.3)
    batches = list(batches_of_cutouts(sample, masks, side=32, fill=FILL))
    assert [len(batch) for batch in batches] == [BATCH, 3]
    np.testing.assert_array_equal(
        batches[1][2], cut_out(sample, masks, BATCH + 2, side=32, fill=FILL)
    )
    assert list(batches_of_cutouts(sample, Masks.empty((40, 40)), side=32, fill=FILL)) == []
