from itertools import pairwise

import numpy as np
import pytest

from alps.structures.tiles import Tile, box_xywh_to_xyxy, box_xyxy_to_xywh, cut_tiles


@pytest.mark.parametrize("size", [(50, 70), (128, 128), (129, 128), (1035, 1249), (300, 2000)])
@pytest.mark.parametrize("overlap", [0, 16, 100])
def test_tiles_cover_the_image_and_overlap(size, overlap):
    tiles = cut_tiles(size, 128, overlap)
    seen = np.zeros(size, int)
    for tile in tiles:
        assert tile.x1 <= size[1]
        assert tile.y1 <= size[0]
        assert tile.size == (min(128, size[0]), min(128, size[1]))
        seen[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    assert seen.min() >= 1
    for axis in ("x", "y"):
        spans = sorted({(getattr(t, axis + "0"), getattr(t, axis + "1")) for t in tiles})
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= overlap


def test_tiles_are_as_few_as_the_overlap_allows():
    assert len(cut_tiles((128, 128), 128, 16)) == 1
    assert len(cut_tiles((128, 240), 128, 16)) == 2
    assert len(cut_tiles((128, 241), 128, 16)) == 3


def test_an_overlap_as_wide_as_the_tile_is_refused():
    with pytest.raises(ValueError, match=r"overlap must lie in \[0, tile_size = 64\), got 64"):
        cut_tiles((100, 100), 64, 64)


def test_intersection():
    a, b = Tile(0, 0, 10, 10), Tile(8, 4, 20, 12)
    assert a.intersect(b) == b.intersect(a) == Tile(8, 4, 10, 10)
    assert a.intersect(Tile(10, 0, 12, 10)) is None
    assert a.area == 100


def test_box_orders_are_inverse():
    boxes = np.array([[1, 2, 5, 9], [0, 0, 0, 0]], np.float32)
    np.testing.assert_array_equal(box_xyxy_to_xywh(boxes)[0], [1, 2, 4, 7])
    np.testing.assert_array_equal(box_xywh_to_xyxy(box_xyxy_to_xywh(boxes)), boxes)
