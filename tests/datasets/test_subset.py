"""Subsets are fixed, nested and hold all classes where they can."""

import logging
from itertools import pairwise

import numpy as np
import pytest
from labelled_arrays import LabelledArrays, label_sets

from alps.datasets.subset import fraction, hold_out
from alps.errors import ConfigError
from alps.structures.records import ImageRecord
from alps.structures.tiles import cut_tiles


def rare(n: int = 200) -> LabelledArrays:
    """Class 0 everywhere, 1 in every tenth image, 2 and 3 in one each."""
    classes = [{0, 1} if i % 10 == 0 else {0} for i in range(n)]
    classes[77].add(2)
    classes[123].add(3)
    return label_sets(*classes)


def subset(images: LabelledArrays, share: float, seed: int = 0) -> list[str]:
    return [r.image_id for r in fraction(images, images.records(), share, seed)]


@pytest.mark.parametrize("seed", range(5))
def test_subsets_are_nested_in_order_and_hold_all_classes(seed: int) -> None:
    images = rare()
    shares = [0.02, 0.05, 0.1, 0.5, 1.0]
    chosen = [subset(images, share, seed) for share in shares]
    assert [len(ids) for ids in chosen] == [4, 10, 20, 100, 200]
    for small, large in pairwise(chosen):
        assert set(small) <= set(large)
    for ids in chosen:
        assert ids == sorted(ids)
        assert len(set(ids)) == len(ids)
        assert {k for i in ids for k in np.unique(images.pairs[i][1])} == {0, 1, 2, 3}


def test_the_subset_depends_on_the_seed() -> None:
    assert subset(rare(), 0.1) == subset(rare(), 0.1)
    assert subset(rare(), 0.1) != subset(rare(), 0.1, seed=1)


def test_labels_are_read_only_until_all_classes_are_seen() -> None:
    images = label_sets(*[{0, 1, 2, 3}] * 50)
    subset(images, 0.5)
    assert len(images.labels_read) == 1
    assert subset(images, 1.0) == [*images.pairs]
    assert len(images.labels_read) == 1


def test_a_subset_without_all_classes_is_logged(caplog) -> None:
    images = label_sets({0, 1}, {0, 1}, *[{0, 2}] * 50, {3})
    with caplog.at_level(logging.WARNING):
        [first, second] = subset(images, 2 / 53)
    found = {k for i in (first, second) for k in np.unique(images.pairs[i][1])}
    assert found in ({0, 1, 2}, {0, 1, 3}, {0, 2, 3})
    [missing] = {0, 1, 2, 3} - found
    assert [record.getMessage() for record in caplog.records] == [
        "the 2 of 53 images of data.fraction=0.0377358 contain 3 of 4 classes; missing: class "
        f"{missing}"
    ]


def test_missing_classes_are_named(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(subset(label_sets(*[{0, 1, 255}] * 20, num_classes=9), 0.2)) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "the 4 of 20 images of data.fraction=0.2 contain 2 of 9 classes; missing: class 2, "
        "class 3, "
        "class 4, class 5, class 6, …"
    ]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_an_invalid_share_is_refused(share: float) -> None:
    with pytest.raises(
        ConfigError, match=rf"^fraction={share}: expected a fraction of the images > 0 and <= 1"
    ):
        subset(rare(), share)
    with pytest.raises(
        ConfigError, match=rf"^hold_out={share}: expected a fraction of the images > 0 and < 1"
    ):
        hold_out(rare().records(), share, 0)


def records(n: int) -> list[ImageRecord]:
    return [ImageRecord(f"{i:05d}", f"{i}.png") for i in range(n)]


@pytest.mark.parametrize(
    ("n", "share", "aside"), [(100, 0.1, 10), (2, 0.9, 1), (3, 0.01, 1), (600, 0.9, 500)]
)
def test_held_out_images_are_disjoint_from_training_images(
    n: int, share: float, aside: int
) -> None:
    train, val = hold_out(records(n), share, 0)
    assert len(val) == aside
    assert sorted([*train, *val], key=lambda r: r.image_id) == records(n)
    assert [r.image_id for r in val] == sorted(r.image_id for r in val)
    assert hold_out(records(n), share, 0) == (train, val)


def test_held_out_images_depend_on_the_seed() -> None:
    assert hold_out(records(100), 0.1, 0) != hold_out(records(100), 0.1, 1)
    assert len(hold_out(records(100), 0.5, 0, max_images=7)[1]) == 7


@pytest.mark.parametrize("n", [0, 1])
def test_holding_out_needs_two_images(n: int) -> None:
    with pytest.raises(ConfigError, match=f"the number of images is {n}, expected at least two"):
        hold_out(records(n), 0.1, 0)


def windows(raster: str, size: tuple[int, int]) -> list[ImageRecord]:
    return [
        ImageRecord(f"{raster}/{tile.y0}_{tile.x0}", f"{raster}.tif", window=tile)
        for tile in cut_tiles(size, 100, 20)
    ]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_windows_for_validation_overlap_no_windows_of_training(
    share: float, caplog: pytest.LogCaptureFixture
) -> None:
    rasters = {
        "a": windows("a", (500, 900)),
        "b": windows("b", (90, 260)),
        "c": windows("c", (600, 600)),
    }
    every = [record for records in rasters.values() for record in records]
    with caplog.at_level(logging.INFO):
        train, val = hold_out(every, share, 0)
    assert len(val) == round(share * len(every))
    assert [r for r in every if r in train] == train
    assert [r for r in every if r in val] == val
    for a in train:
        for b in val:
            assert a.file_name != b.file_name or a.window.intersect(b.window) is None
    whole = [r for r in rasters.values() if set(r) <= {*train} or set(r) <= {*val}]
    assert len(whole) >= 2  # at most one raster is divided
    unused = len(every) - len(train) - len(val)
    assert caplog.messages[0].startswith(f"validation on {len(val)} of {len(every)} windows, from ")
    assert caplog.messages[0].endswith(f"; {unused} windows that overlap them are not used")


def test_windows_that_all_overlap_cannot_be_held_out() -> None:
    message = "the other 1 of 2 windows overlap them; use more or larger rasters, or a smaller"
    with pytest.raises(ConfigError, match=message):
        hold_out(windows("a", (100, 150)), 0.5, 0)
