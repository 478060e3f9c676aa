import pytest
import torch
from segment_anything.utils.amg import calculate_stability_score
from torchvision.ops import box_iou

from alps.masks.filter import area_gate, box_nms, stability_score


def test_stability_equals_segment_anything():
    logits = torch.randn(7, 20, 30, generator=torch.Generator().manual_seed(0)) * 3
    expected = calculate_stability_score(logits, 0.0, 1.0)
    torch.testing.assert_close(stability_score(logits, 1.0), expected)


def test_stability_of_an_empty_mask_is_zero():
    assert stability_score(torch.full((1, 4, 4), -9.0), 1.0).item() == 0


def test_area_gate_is_a_share_of_the_tile():
    area = torch.tensor([0, 1, 10, 30, 31, 100])
    assert area_gate(area, 100, 0.0, 0.3).tolist() == [False, True, True, True, False, False]
    assert area_gate(area, 100, 0.1, 1.0).tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("seed", range(5))
def test_nms_keeps_the_best_and_no_overlap(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(40, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(40, 2, generator=generator) * 30], 1)
    scores = torch.randint(0, 5, (40,), generator=generator).float()  # many ties
    keep = box_nms(boxes, scores, 0.5)
    iou = box_iou(boxes, boxes)
    kept = iou[keep][:, keep].fill_diagonal_(0)
    assert kept.max() <= 0.5
    for i in set(range(40)) - set(keep.tolist()):
        better = [j for j in keep.tolist() if iou[i, j] > 0.5 and scores[j] >= scores[i]]
        assert better
    assert scores[keep].tolist() == sorted(scores[keep].tolist(), reverse=True)


def test_nms_of_equal_scores_takes_the_first():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    assert box_nms(boxes, torch.ones(3), 0.7).tolist() == [0, 2]
    assert box_nms(torch.zeros(0, 4), torch.zeros(0), 0.7).tolist() == []
