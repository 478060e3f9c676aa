"""Our scores beside its IoUMetric."""

import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from alps.metrics.segmentation import confusion_matrix, scores

K, IGNORE = 6, 255


def index_maps(seed, absent=()):
    """Three images as (prediction, target), a tenth of which is not labelled."""
    rng = np.random.default_rng(seed)
    classes = [k for k in range(K) if k not in absent]
    target = rng.choice(classes, (3, 40, 50))
    prediction = np.where(rng.random(target.shape) < 0.7, target, rng.choice(classes, target.shape))
    target[rng.random(target.shape) < 0.1] = IGNORE
    return torch.tensor(prediction), torch.tensor(target)


def its_scores(prediction, target):
    metric = IoUMetric(iou_metrics=["mIoU", "mFscore"], ignore_index=IGNORE)
    results = [
        metric.intersect_and_union(p, t, K, IGNORE) for p, t in zip(prediction, target, strict=True)
    ]
    areas = [sum(parts) for parts in zip(*results, strict=True)]
    return metric.total_area_to_metrics(*areas, ["mIoU", "mFscore"])


@pytest.mark.parametrize("absent", [(), (2,), (0, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_our_scores_are_its_scores(seed, absent):
    prediction, target = index_maps(seed, absent)
    found = scores(confusion_matrix(prediction, target, K, IGNORE))
    expected = its_scores(prediction, target)
    assert found.iou == pytest.approx(expected["IoU"], nan_ok=True)
    assert found.f1 == pytest.approx(expected["Fscore"], nan_ok=True)
    assert found.accuracy == pytest.approx(expected["Acc"], nan_ok=True)
    assert pytest.approx(expected["aAcc"]) == found.OA
    assert found.mIoU == pytest.approx(np.nanmean(expected["IoU"]))
    assert found.mF1 == pytest.approx(np.nanmean(expected["Fscore"]))


@pytest.mark.parametrize("where", ["prediction", "target"])
def test_a_class_in_one_of_the_two_has_no_f1_there_and_0_here(where):
    """As in torchmetrics; IoU is 0 in both."""
    prediction, target = index_maps(0)
    other = target if where == "prediction" else prediction
    other[other == 3] = 4
    found = scores(confusion_matrix(prediction, target, K, IGNORE))
    expected = its_scores(prediction, target)
    assert (found.f1[3], found.iou[3], expected["IoU"][3]) == (0, 0, 0)
    assert np.isnan(expected["Fscore"][3])
    assert found.mIoU == pytest.approx(np.nanmean(expected["IoU"]))
