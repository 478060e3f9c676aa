import numpy as np
import pytest

from alps.masks.stitch import stitch
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.tiles import cut_tiles


def see(scene, tile_size, overlap, quality=None):
    """What perfect segmentation of each tile gives: every object's part inside the tile."""
    parts = []
    for t, tile in enumerate(cut_tiles(scene.shape[1:], tile_size, overlap)):
        counts = []
        for mask in scene:
            window = mask[tile.y0 : tile.y1, tile.x0 : tile.x1]
            if window.any():
                counts.append(rle.encode_window(window, tile.x0, tile.y0, mask.shape))
        score = np.full(len(counts), 0.9 if quality is None else quality[t], np.float32)
        parts.append((tile, Masks.from_counts(counts, scene.shape[1:], predicted_iou=score)))
    return parts


def rectangles(size, *boxes):
    scene = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(scene, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return scene


@pytest.mark.parametrize("seed", range(8))
def test_every_object_comes_back_once_and_whole(seed):
    rng = np.random.default_rng(seed)
    size = (150, 210)
    boxes = []
    for row in range(5):  # objects of all sizes that do not touch, anywhere over the borders
        x = int(rng.integers(0, 12))
        while x < size[1] - 8:
            width = int(rng.integers(6, 80))
            boxes.append((x, row * 30 + 2, min(x + width, size[1]), row * 30 + 28))
            x += width + 6
    scene = rectangles(size, *boxes)
    found = stitch(see(scene, 64, 24), size)
    assert sorted(found.counts) == sorted(rle.encode(scene))


def test_an_object_over_many_tiles_is_one_mask():
    scene = rectangles((60, 300), (3, 10, 297, 50))
    assert stitch(see(scene, 64, 16), (60, 300)).counts == rle.encode(scene)


def test_nested_objects_stay_two():
    scene = rectangles((64, 110), (0, 0, 110, 64), (40, 20, 66, 44))
    assert sorted(stitch(see(scene, 64, 18), (64, 110)).counts) == sorted(rle.encode(scene))


def test_where_both_tiles_see_all_the_better_mask_is_taken():
    scene = rectangles((64, 110), (50, 20, 60, 30))
    found = stitch(see(scene, 64, 18, quality=[0.8, 0.95]), (64, 110))
    assert len(found) == 1
    assert found.predicted_iou[0] == np.float32(0.95)


def test_a_whole_view_beats_a_cut_one_of_higher_quality():
    scene = rectangles((64, 110), (40, 20, 62, 30))  # the second tile begins at 46
    found = stitch(see(scene, 64, 18, quality=[0.8, 0.95]), (64, 110))
    assert found.counts == rle.encode(scene)
    assert found.predicted_iou[0] == np.float32(0.8)


def test_one_tile_passes_through_and_none_is_valid():
    scene = rectangles((40, 40), (0, 0, 9, 9))
    parts = see(scene, 64, 8)
    assert stitch(parts, (40, 40)) is parts[0][1]
    assert len(stitch(see(np.zeros((1, 100, 100), bool), 64, 8), (100, 100))) == 0


def test_a_small_object_at_a_border_does_not_replace_the_large_one_that_begins_there():
    size = (64, 110)
    tiles = cut_tiles(size, 64, 18)
    small, large = rectangles(size, (46, 10, 60, 50), (46, 8, 110, 52))
    parts = [
        (
            tile,
            Masks.from_counts(
                [rle.encode_window(mask[:, tile.x0 : tile.x1], tile.x0, 0, size)],
                size,
                predicted_iou=np.array([0.9], np.float32),
            ),
        )
        for tile, mask in zip(tiles, (small, large), strict=True)
    ]
    assert sorted(stitch(parts, size).counts) == sorted(rle.encode(np.stack([small, large])))
