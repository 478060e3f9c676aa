import numpy as np
import pytest
import torch
from segment_anything.utils.amg import calculate_stability_score, is_box_near_crop_edge
from torchvision.ops import box_iou as torchvision_iou

from alps.masks.filter import box_iou, may_be_stable, near_crop_edge, pixel_box_iou


def test_what_is_clearly_unstable_is_refused_and_nothing_stable():
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.5, 30, 60)[:, None, None]
    logits = torch.randn(60, 40, 50, generator=generator) * spread
    stability = calculate_stability_score(logits, 0.0, 1.0)
    kept = may_be_stable(logits, 1.0, 0.9)
    assert kept[stability >= 0.9].all()
    assert not kept[stability < 0.8].any()
    assert 0 < kept.sum() < 60


@pytest.mark.parametrize("seed", range(5))
def test_box_iou_equals_torchvision(seed):
    rng = np.random.default_rng(seed)
    corner = rng.random((40, 2), np.float32) * 50
    boxes = np.concatenate([corner, corner + rng.random((40, 2), np.float32) * 30], 1)
    expected = torchvision_iou(torch.from_numpy(boxes[:1]), torch.from_numpy(boxes))[0]
    np.testing.assert_allclose(box_iou(boxes[0], boxes), expected, rtol=1e-5, atol=1e-6)


def test_boxes_of_one_pixel_do_not_suppress_each_other():
    """Their inclusive corners coincide, so they have no area."""
    point = np.array([3, 3, 3, 3], np.float32)
    assert box_iou(point, point[None]).tolist() == [0]
    assert box_iou(point, np.zeros((0, 4), np.float32)).shape == (0,)


@pytest.mark.parametrize("seed", range(20))
def test_near_crop_edge_equals_segment_anything(seed):
    rng = np.random.default_rng(seed)
    crop = (100, 50, 400, 350) if seed % 2 else (0, 50, 300, 350)
    for _ in range(50):
        x0, y0 = (int(v) for v in rng.integers(0, 250, 2))
        x1, y1 = x0 + int(rng.integers(1, 50)), y0 + int(rng.integers(1, 50))
        inclusive = torch.tensor([[x0, y0, x1 - 1, y1 - 1]])
        expected = is_box_near_crop_edge(inclusive, list(crop), [0, 0, 600, 400]).item()
        assert near_crop_edge((x0, y0, x1, y1), crop, (400, 600)) == expected


def test_pixel_boxes_are_compared_as_sam_does_unless_both_are_one_pixel_thin():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 40, (60, 2))
    boxes = np.concatenate([corners, corners + rng.integers(2, 40, (60, 2))], 1).astype(np.float32)
    last = np.array([0, 0, 1, 1], np.float32)
    np.testing.assert_array_equal(
        pixel_box_iou(boxes[0], boxes), box_iou(boxes[0] - last, boxes - last)
    )
    thin = np.array([[0, 0, 300, 1], [0, 0, 150, 1], [0, 0, 300, 2], [7, 0, 8, 9]], np.float32)
    np.testing.assert_allclose(pixel_box_iou(thin[0], thin), [1, 0.5, 0, 1 / 308])
    assert pixel_box_iou(thin[2], thin).tolist() == [0, 0, 1, 0]
