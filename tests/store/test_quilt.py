"""Seams between windows follow paths on which both index maps agree."""

import tracemalloc

import numpy as np
import pytest

from alps.store.quilt import choose_second, strip_at


def changes_at_seam(first, second):
    chosen = choose_second(first, second, seed=0)
    rows = np.arange(len(first))
    end = chosen.argmax(axis=1)  # first pixel of the second map
    assert (end > 0).all()
    assert (chosen == (np.arange(first.shape[1]) >= end[:, None])).all()  # one cut per row
    return (first[rows, end - 1] != second[rows, end]).sum()


def test_equal_maps_have_a_seam_without_changes():
    labels = np.repeat(np.arange(8, dtype=np.uint8), 5)[:, None].repeat(16, axis=1)
    assert changes_at_seam(labels, labels) == 0
    joined = np.where(choose_second(labels, labels, seed=3), labels, labels)
    assert np.array_equal(joined, labels)


def test_the_seam_avoids_an_object_that_one_window_misses():
    first = np.zeros((60, 20), np.uint8)
    second = first.copy()
    first[20:40, 4:14] = 1  # a straight cut in the middle would change class 20 times
    assert changes_at_seam(first, second) == 0


def test_where_maps_disagree_everywhere_the_seam_is_not_straight():
    first, second = np.zeros((200, 32), np.uint8), np.ones((200, 32), np.uint8)
    column = choose_second(first, second, seed=1).argmax(axis=1)
    assert np.bincount(column).max() < 60
    assert np.abs(np.diff(column)).max() == 1


def test_the_seam_is_the_same_in_every_run():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, (2, 50, 24), np.uint8)
    assert np.array_equal(choose_second(first, second, 7), choose_second(first, second, 7))


@pytest.mark.parametrize(
    ("edge", "overlap", "cores", "strip"),
    [
        (960, (896, 1024), (0, 1856), (896, 1024)),
        (550, (76, 1024), (0, 1100), (486, 614)),  # a wide overlap
        (54, (43, 64), (0, 97), (43, 64)),
        (50, (40, 60), (45, 100), (48, 60)),  # half of a narrow core
    ],
)
def test_strips_lie_in_the_overlap_and_in_half_of_the_cores(edge, overlap, cores, strip):
    assert strip_at(edge, overlap, cores) == strip


def test_the_costs_of_a_long_strip_are_never_all_in_memory():
    first, second = np.random.default_rng(0).integers(0, 3, (2, 8_000, 128), np.uint8)
    tracemalloc.start()
    choose_second(first, second, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * first.nbytes  # costs of all rows alone take as much, in float32
