import numpy as np
import pytest

from alps.errors import ImageError
from alps.types import ImageRecord, Masks, Sample


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../b", "a\0b", "a\\b"])
def test_names_that_could_leave_the_store_are_refused(name):
    with pytest.raises(ImageError, match="not a plain relative path"):
        ImageRecord(name, "file.png")


@pytest.mark.parametrize("name", ["x" * 252, "ö" * 126, f"{'x' * 256}/a", "a/" * 1535])
def test_names_too_long_for_a_label_s_file_are_refused(name):
    with pytest.raises(ImageError, match=r"is too long: .* the limits are 3072 and 255; rename"):
        ImageRecord(name, "file.png")


@pytest.mark.parametrize("name", ["x" * 251, "ö" * 125, f"{'x' * 255}/a", "a/" * 1533 + "a"])
def test_names_as_long_as_they_may_be_are_taken(name):
    assert ImageRecord(name, "file.png").image_id == name


def test_masks_index_and_cat():
    dense = np.random.default_rng(0).random((5, 9, 7)) < 0.4
    masks = Masks.from_dense(dense)
    np.testing.assert_array_equal(masks.dense(), dense)
    np.testing.assert_array_equal(masks[np.array([3, 1])].dense(), dense[[3, 1]])
    keep = np.array([True, False, True, False, True])
    np.testing.assert_array_equal(masks[keep].dense(), dense[keep])
    both = Masks.cat([masks[np.arange(2)], masks[np.arange(2, 5)]])
    np.testing.assert_array_equal(both.dense(), dense)
    assert len(masks[np.zeros(5, bool)]) == 0


def test_masks_of_two_sizes_do_not_join():
    with pytest.raises(ValueError, match="2 image sizes"):
        Masks.cat([Masks.empty((2, 3)), Masks.empty((3, 2))])


def test_columns_of_another_length_are_refused():
    good = Masks.from_dense(np.ones((2, 3, 3), bool))
    with pytest.raises(ValueError, match=r"Masks\.xyxy has 2 rows, counts has 1"):
        Masks(
            good.size,
            good.counts[:1],
            good.xyxy,
            good.area,
            good.predicted_iou,
            good.stability_score,
            good.point_coords,
        )


def test_what_lies_under_no_data_is_not_seen():
    """Whatever a file holds there, the sample is the same, and the array passed stays as it was."""
    valid = np.ones((6, 8), bool)
    valid[:, :3] = False
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (6, 8, 3), np.uint8)
    samples = []
    for under in (0, 255, rng.integers(0, 256, (6, 3, 3))):
        image = image.copy()
        image[:, :3] = under
        before = image.copy()
        samples.append(Sample("a", image, valid=valid))
        np.testing.assert_array_equal(image, before)
    for sample in samples:
        assert not sample.image[:, :3].any()
        np.testing.assert_array_equal(sample.image[:, 3:], image[:, 3:])


def test_a_mask_of_valid_pixels_that_says_nothing_is_none():
    image = np.ones((2, 3, 3), np.uint8)
    assert Sample("a", image, valid=np.ones((2, 3), bool)).valid is None
    assert Sample("a", image).valid is None


def test_tiles_without_data_are_skipped():
    valid = np.zeros((20, 50), bool)
    valid[3, 45] = True
    image = np.zeros((20, 50, 3), np.uint8)
    tiles = Sample("a", image, valid=valid).tiles(20, 0)
    assert [(tile.x0, tile.x1) for tile in tiles] == [(30, 50)]
    assert len(Sample("a", image).tiles(20, 0)) == 3
    assert Sample("a", image, valid=np.zeros((20, 50), bool)).tiles(20, 0) == []
