"""pycocotools is the reference for every byte."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from alps.structures import rle
from alps.structures.tiles import Tile


def random_masks(seed, n=4):
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(1, 50, 2))
    share = rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])
    return rng.random((n, height, width)) < share, rng


@pytest.mark.parametrize("seed", range(40))
def test_round_trips_and_bytes(seed):
    masks, rng = random_masks(seed)
    size = masks.shape[1:]
    counts = rle.encode(masks)
    for mask, c in zip(masks, counts, strict=True):
        np.testing.assert_array_equal(rle.decode(c, size), mask)
        assert rle.encode_window(mask, 0, 0, size) == c
        assert rle.runs(c).sum() == mask.size
        x, y, window = rle.window(c, size[0])
        back = np.zeros(size[::-1], bool)
        back[x : x + window.shape[0], y : y + window.shape[1]] = window
        np.testing.assert_array_equal(back.T, mask)
        (box,) = rle.to_xyxy([c], size)
        if window.size and box[3] - box[1] < size[0]:  # no run goes on in the next column
            assert (x, y, x + window.shape[0], y + window.shape[1]) == tuple(box)
        # the same mask somewhere in a larger image
        y, x = (int(v) for v in rng.integers(0, 9, 2))
        large = np.zeros((size[0] + 9, size[1] + 9), bool)
        large[y : y + size[0], x : x + size[1]] = mask
        moved = rle.encode_window(mask, x, y, large.shape)
        assert moved == rle.encode(large[None])[0]
        tile = Tile(x + 1, y + 1, x + 1 + size[1], y + 1 + size[0])
        np.testing.assert_array_equal(
            rle.decode_window(moved, large.shape[0], tile),
            large[tile.y0 : tile.y1, tile.x0 : tile.x1],
        )
    np.testing.assert_array_equal(rle.area(counts, size), masks.sum((1, 2)))
    assert rle.union(counts, size) == rle.encode(masks.any(0)[None])[0]


def test_many_small_masks_unite_as_pycocotools_merges_them():
    """Overlapping, touching, at the rim, over full columns, empty; byte by byte."""
    rng, size = np.random.default_rng(0), (37, 53)
    masks = np.zeros((2000, *size), bool)
    for mask in masks[1:]:
        y, x = rng.integers(0, size)
        mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = rng.random() < 0.9
    masks[7, :, 3:5] = True
    counts = rle.encode(masks)
    for n in (1, 2, 3, 10, 50, 300, 2000):
        some = [{"size": list(size), "counts": c} for c in counts[:n]]
        assert rle.union(counts[:n], size) == coco.merge(some)["counts"], n


def test_a_union_takes_no_step_per_mask_and_pixel(monkeypatch):
    """pycocotools merges in turn: 37,000 superpixels of 4096 x 4096 px took 10 s."""
    monkeypatch.setattr(coco, "merge", None)
    monkeypatch.setattr(coco, "decode", None)
    row = rle.encode_window(np.ones((1, 1), bool), 0, 0, (1 << 20, 1 << 20))
    square = rle.encode_window(np.ones((4, 4), bool), 1 << 19, 1 << 19, (1 << 20, 1 << 20))
    united = rle.union([row, square, square], (1 << 20, 1 << 20))  # a terapixel
    assert rle.area([united], (1 << 20, 1 << 20))[0] == 17


def test_no_masks_unite_to_an_empty_one():
    assert not rle.decode(rle.union((), (5, 7)), (5, 7)).any()


@pytest.mark.parametrize("seed", range(10))
def test_boxes_and_iou(seed):
    masks, _ = random_masks(seed)
    size = masks.shape[1:]
    counts = rle.encode(masks)
    for mask, (x0, y0, x1, y1) in zip(masks, rle.to_xyxy(counts, size), strict=True):
        ys, xs = np.nonzero(mask)
        expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else (0, 0, 0, 0)
        assert (x0, y0, x1, y1) == expected
    ious = rle.iou(counts, counts, size)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            if (a | b).any():
                assert ious[i, j] == pytest.approx((a & b).sum() / (a | b).sum())


def test_long_runs_are_decoded():
    """Runs beyond 2^25 take six characters a number."""
    size = (9000, 9000)
    for counts in ([0, 81_000_000], [40_000_000, 1_000_000, 40_000_000], [81_000_000]):
        packed = coco.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"]
        assert rle.runs(packed).tolist() == counts


def test_no_masks_at_all():
    assert rle.encode(np.zeros((0, 3, 4), bool)) == ()
    assert rle.area((), (3, 4)).shape == (0,)
    assert rle.to_xyxy((), (3, 4)).shape == (0, 4)
    assert rle.iou((), (), (3, 4)).shape == (0, 0)


def test_hundreds_of_masks():
    masks = np.random.default_rng(0).random((700, 5, 6)) < 0.5
    counts = rle.encode(masks)
    np.testing.assert_array_equal(rle.area(counts, (5, 6)), masks.sum((1, 2)))
    assert rle.to_xyxy(counts, (5, 6)).shape == (700, 4)
    assert rle.iou(counts, counts, (5, 6)).diagonal().min() == 1


def test_rotated_boxes_are_tight_and_smallest():
    """Of a drawn rotated rectangle, of one row, of one pixel and of nothing."""
    masks = np.zeros((4, 120, 150), np.uint8)
    corners = cv2.boxPoints(((70, 60), (80, 30), 30))
    cv2.fillPoly(masks[0], [corners.round().astype(np.int32)], 1)
    masks[1, 7, 20:60] = 1
    masks[2, 5, 9] = 1
    found = rle.rotated_boxes(rle.encode(masks.astype(bool)), (120, 150))
    xy = found.reshape(4, 4, 2)
    sides = np.linalg.norm(xy - np.roll(xy, 1, axis=1), axis=2)
    np.testing.assert_allclose(np.sort(sides[0])[[0, 2]], [30, 80], atol=2.5)
    for pixel in np.argwhere(masks[0])[:, ::-1].astype(np.float32):
        assert cv2.pointPolygonTest(xy[0], (pixel + 0.5).tolist(), True) > 0.4
    np.testing.assert_allclose([xy[1].min(0), xy[1].max(0)], [[20, 7], [60, 8]], atol=1e-4)
    np.testing.assert_allclose([xy[2].min(0), xy[2].max(0)], [[9, 5], [10, 6]], atol=1e-4)
    assert not found[3].any()


def inside(quad, size):
    """Whether the centre of each pixel lies in it: crossings to its right are odd."""
    y, x = np.indices(size) + 0.5
    found = np.zeros(size, bool)
    corners = quad.reshape(4, 2).astype(np.float64)
    for (xa, ya), (xb, yb) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ya != yb:
            found ^= ((ya <= y) != (yb <= y)) & (x < xa + (y - ya) * (xb - xa) / (yb - ya))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_quadrilateral_is_filled(seed):
    """Whatever its shape, its direction and where it lies."""
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(1, 40, 2))
    for _ in range(20):
        quad = rng.uniform(-20, 50, 8).astype(np.float32)  # some cross themselves
        counts = rle.encode_quad(quad, size)
        mask = rle.decode(counts, size)
        np.testing.assert_array_equal(mask, inside(quad, size))
        assert counts == rle.encode(mask[None])[0]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 9, 7), (0, 0, 9, 7)),
        ((-5, -5, 50, 50), (0, 0, 9, 7)),
        ((2, 1, 5, 3), (2, 1, 5, 3)),
        ((2.5, 1.4, 4.5, 3.6), (2, 1, 4, 4)),
        ((3, 2, 3, 6), (0, 0, 0, 0)),
        ((20, 0, 30, 7), (0, 0, 0, 0)),
    ],
)
def test_a_horizontal_box_is_filled(box, pixels):
    expected = np.zeros((7, 9), bool)
    expected[pixels[1] : pixels[3], pixels[0] : pixels[2]] = True
    corners = np.array(box, np.float32)[[0, 1, 2, 1, 2, 3, 0, 3]]
    for turn in range(4):
        counts = rle.encode_quad(np.roll(corners, 2 * turn), (7, 9))
        np.testing.assert_array_equal(rle.decode(counts, (7, 9)), expected)


@pytest.mark.parametrize("seed", range(10))
def test_the_part_inside_an_area(seed):
    masks, rng = random_masks(seed)
    size = masks.shape[1:]
    where = rng.random(size) < 0.7
    for mask, counts in zip(masks, rle.encode(masks), strict=True):
        part = rle.intersect(counts, where)
        np.testing.assert_array_equal(rle.decode(part, size), mask & where)
        assert part == rle.encode((mask & where)[None])[0]
        assert rle.intersect(counts, np.ones(size, bool)) is counts
        assert rle.area([rle.intersect(counts, np.zeros(size, bool))], size)[0] == 0
