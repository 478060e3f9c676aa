"""What is said of labels before anything is learnt from them."""

import numpy as np
import pytest

from alps.datasets.label_census import SplitLabels, missing_classes, read_split
from alps.errors import LabelError
from alps.structures.records import Category, ImageRecord


class Numbers:
    """A labelled set of one-pixel labels; counts how many are read."""

    name, root, protocol = "numbers", "memory", "numbers"

    def __init__(self, numbers, classes=3, ignore_index=255, **options):
        self.numbers, self.classes, self.ignore_index = numbers, classes, ignore_index
        self.reads = 0
        vars(self).update(options)

    def records(self):
        return [ImageRecord(str(i), f"{i}.png") for i in range(len(self.numbers))]

    def read(self, record):
        raise AssertionError  # images are not needed

    def categories(self):
        return [Category(i, "abcdefgh"[i], (i, i, i)) for i in range(self.classes)]

    def read_target(self, record):
        self.reads += 1
        return np.array([[self.numbers[int(record.image_id)], self.ignore_index]], np.uint8)


def read(images, split="train", **options):
    return read_split(images, images.records(), split, **options)


def test_reading_stops_when_all_classes_are_found():
    images = Numbers([0, 1, 2] * 400)
    found = read(images)
    assert found.numbers == {0, 1, 2}
    assert images.reads == found.read < 20


def test_reading_is_limited_unless_the_limit_is_none():
    images = Numbers([0, 1] * 30)
    found = read(images, max_labels=20)
    assert (found.numbers, found.read, found.images, images.reads) == ({0, 1}, 20, 60, 20)
    assert str(found) == "20 of the 60 labels of train"
    found = read(images, max_labels=None)
    assert (found.read, images.reads) == (60, 80)
    assert str(found) == "the 60 labels of train"


def test_all_labels_are_read_before_a_split_counts_as_unlabelled():
    images = Numbers([255] * 40)
    expected = (
        r"numbers: no pixel of val is labelled: all 40 labels contain only 255, "
        r"which is ignored; check how .* crowds\), or change dataset.ignore_index"
    )
    with pytest.raises(LabelError, match=expected):
        read(images, "val", max_labels=5)
    assert images.reads == 40
    images.numbers[7] = 1  # one labelled pixel among all
    assert read(images, max_labels=5).numbers == {1}


def test_a_split_without_images_has_no_finding():
    found = read_split(Numbers([0]), [], "val")
    assert (found.numbers, found.read) == (set(), 0)
    assert missing_classes(Numbers([0]), [found]) == []


def test_missing_classes_are_named():
    images = Numbers([0, 1], classes=8, ignore_index=6)
    splits = [
        SplitLabels("train", frozenset({0, 1}), 2, 2),
        SplitLabels("val", frozenset({0, 1, 2, 3, 4, 7}), 500, 900),
    ]
    assert [(f.kind, f.count, str(f)) for f in missing_classes(images, splits)] == [
        (
            "class_not_in_train",
            5,
            "5 of 7 classes do not occur in the 2 labels of train: c, d, e, f, h; the model cannot "
            "learn them: check the labels, and the list of classes of the dataset",
        ),
        (
            "class_not_in_val",
            1,
            "1 of 7 classes do not occur in 500 of the 900 labels of val: f; mean scores "
            "exclude them: add images with these classes",
        ),
    ]
    images.ignore_index = 255
    splits[0] = SplitLabels("train", frozenset({0}), 2, 2)
    assert "of train: b, c, d, e, f, ...;" in str(missing_classes(images, splits)[0])


def test_labels_that_start_at_1_are_reported_if_they_can_be_reduced():
    splits = [
        SplitLabels("train", frozenset({1, 2, 3}), 4, 4),
        SplitLabels("val", frozenset({2}), 2, 2),
    ]
    kinds = [f.kind for f in missing_classes(Numbers([1]), splits)]
    assert kinds == ["class_not_in_train", "class_not_in_val"]
    first = missing_classes(Numbers([1], reduce_zero_label=False), splits)[0]
    assert str(first) == (
        "no pixel of the 4 labels of train or of the 2 labels of val is 0, the lowest value is 1; "
        "if the labels 1..n are the classes 0..n-1, set dataset.reduce_zero_label=true"
    )
    reduced = missing_classes(Numbers([1], reduce_zero_label=True), splits)
    assert [f.kind for f in reduced] == kinds
