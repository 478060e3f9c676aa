"""Scores against torchmetrics, and what must not be seen in them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)

from alps.metrics import segmentation
from alps.metrics.segmentation import confusion_matrix, scores
from tests.allocations import Largest

K, IGNORE = 7, 255


def index_maps(seed: int = 0, absent: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """(prediction, target) that agree for the most part; ``absent`` classes occur in neither."""
    rng = np.random.default_rng(seed)
    classes = [k for k in range(K) if k not in absent]
    target = rng.choice(classes, (3, 20, 30))
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.choice(classes, target.shape))
    target[rng.random(target.shape) < 0.1] = IGNORE
    return torch.tensor(prediction), torch.tensor(target)


def matrix(prediction: Tensor, target: Tensor) -> Tensor:
    return confusion_matrix(prediction, target, K, IGNORE)


@pytest.mark.parametrize("absent", [(), (3,), (0, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_torchmetrics(seed: int, absent: tuple[int, ...]) -> None:
    prediction, target = index_maps(seed, absent)
    confusion = matrix(prediction, target)
    options = {"num_classes": K, "ignore_index": IGNORE}
    assert confusion.equal(MulticlassConfusionMatrix(**options)(prediction, target))

    found = scores(confusion)
    for peer, mean, each in (
        (MulticlassJaccardIndex, found.mIoU, found.iou),
        (MulticlassF1Score, found.mF1, found.f1),
    ):
        assert mean == pytest.approx(peer(**options, average="macro")(prediction, target).item())
        theirs = peer(**options, average="none")(prediction, target).tolist()
        assert [k for k in range(K) if math.isnan(each[k])] == [*absent]
        present = [k for k in range(K) if k not in absent]
        assert [each[k] for k in present] == pytest.approx([theirs[k] for k in present])
    accuracy = MulticlassAccuracy(**options, average="micro")(prediction, target).item()
    assert pytest.approx(accuracy) == found.OA
    each = MulticlassAccuracy(**options, average="none")(prediction, target)
    assert np.nan_to_num(found.accuracy) == pytest.approx(each.numpy())


def test_scores_equal_those_computed_by_hand() -> None:
    target = torch.tensor([0, 0, 0, 1, 1, 9])
    prediction = torch.tensor([0, 0, 1, 1, 2, 0])
    confusion = confusion_matrix(prediction, target, 4, 9)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    found = scores(confusion)
    assert found.iou == pytest.approx((2 / 3, 1 / 3, 0, math.nan), nan_ok=True)
    assert found.f1 == pytest.approx((4 / 5, 1 / 2, 0, math.nan), nan_ok=True)
    assert found.accuracy == pytest.approx((2 / 3, 1 / 2, math.nan, math.nan), nan_ok=True)
    assert (found.mIoU, found.mF1, found.OA) == pytest.approx((1 / 3, 1.3 / 3, 3 / 5))
    assert [found.foreground(k) for k in (0, 1, 2)] == pytest.approx([1 / 6, 1 / 3, 1 / 2])


def test_matrices_of_parts_can_be_added() -> None:
    prediction, target = index_maps()
    whole = matrix(prediction, target)
    parts = sum(matrix(p, t) for p, t in zip(prediction, target, strict=True))
    assert whole.equal(parts)
    assert whole.sum() == (target != IGNORE).sum()
    shuffled = torch.randperm(target.numel(), generator=torch.Generator().manual_seed(0))
    assert whole.equal(matrix(prediction.flatten()[shuffled], target.flatten()[shuffled]))


def test_scores_follow_a_permutation_of_the_classes() -> None:
    prediction, target = index_maps()
    renamed = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    moved_target = torch.where(target == IGNORE, IGNORE, renamed[target % IGNORE])
    moved = matrix(renamed[prediction], moved_target)
    whole = matrix(prediction, target)
    assert moved[renamed[:, None], renamed].equal(whole)
    assert [scores(moved).iou[k] for k in renamed] == pytest.approx(scores(whole).iou)
    assert scores(moved).mIoU == pytest.approx(scores(whole).mIoU)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_small_types_do_not_overflow(dtype: torch.dtype) -> None:
    prediction, target = index_maps()
    small = confusion_matrix(prediction.to(dtype), target.to(dtype), 200, IGNORE)
    assert small[:K, :K].equal(matrix(prediction, target))
    assert small[K:].sum() == small[:, K:].sum() == 0


def test_an_ignored_class_among_the_classes_is_not_counted() -> None:
    prediction, target = index_maps()
    confusion = confusion_matrix(prediction, target.where(target != IGNORE, 0), K, 0)
    assert confusion[0].sum() == 0
    assert confusion[1:].equal(matrix(prediction, target)[1:])


def test_scores_of_perfect_wrong_and_empty_predictions() -> None:
    prediction, target = index_maps()
    target = target.where(target != IGNORE, 0)
    perfect = scores(matrix(target, target))
    assert (perfect.mIoU, perfect.mF1, perfect.OA) == (1, 1, 1)
    worst = scores(matrix((target + 1) % K, target))
    assert (worst.mIoU, worst.mF1, worst.OA) == (0, 0, 0)
    nothing = scores(matrix(prediction, torch.full_like(target, IGNORE)))
    assert all(math.isnan(value) for value in (*nothing.iou, nothing.mIoU, nothing.mF1, nothing.OA))


def test_an_invalid_class_is_refused() -> None:
    prediction, target = index_maps()
    with pytest.raises(
        ValueError, match=r"prediction contains classes from 40 to 46, expected 0 to 6"
    ):
        matrix(prediction + 40, target)
    with pytest.raises(ValueError, match="target contains classes from -1 to 6"):
        matrix(prediction, target.where(target != 0, -1))


def test_memory_does_not_grow_with_the_number_of_pixels(monkeypatch) -> None:
    prediction, target = (maps.flatten().byte() for maps in index_maps())
    whole = matrix(prediction, target)
    monkeypatch.setattr(segmentation, "CHUNK_PIXELS", 100)  # does not divide them
    with Largest() as largest:
        assert torch.equal(matrix(prediction, target), whole)
    assert 0 < largest.bytes <= 8 * 100
    assert target.numel() == 1800
