"""Scores of index maps against a reference, from one confusion matrix that adds up exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

#: Pixels that are counted at once.
AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in [0, 1]; NaN where nothing can be said.

    A class has no IoU and no F1 (NaN) where it occurs neither in the reference nor in the
    prediction, and the means leave it out, as torchmetrics' macro average does. A class that is
    only predicted counts as 0. Its accuracy is the share of its reference pixels that were found.
    """

    iou: tuple[float, ...]
    f1: tuple[float, ...]
    accuracy: tuple[float, ...]
    mIoU: float  # noqa: N815 - the field's spelling
    mF1: float  # noqa: N815 - the same
    OA: float

    @property
    def counted(self) -> int:
        """The number of classes that the means are taken over."""
        return sum(not math.isnan(iou) for iou in self.iou)

    def foreground(self, background: int) -> float:
        """The mean IoU of all classes but one."""
        others = self.iou[:background] + self.iou[background + 1 :]
        return torch.tensor(others).nanmean().item()


def confusion_matrix(
    prediction: Integer[Tensor, "*pixels"],
    target: Integer[Tensor, "*pixels"],
    num_classes: int,
    ignore_index: int,
) -> Int64[Tensor, "K K"]:
    """Count pixels by class in the reference (rows) and in the prediction (columns).

    Matrices of parts add up to that of the whole. Works on the device of its arguments, and in
    memory that does not grow with them.

    Args:
        prediction: classes in [0, K).
        target: classes in [0, K), or ``ignore_index``, which is not counted.
        num_classes: K.
        ignore_index: may lie inside [0, K) as well.

    Raises:
        ValueError: a class is not in [0, K); its pixels would be counted as another's.
    """
    total = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=target.device)
    parts = (torch.split(classes.flatten(), AT_ONCE) for classes in (prediction, target))
    for some_predicted, some_true in zip(*parts, strict=True):
        total += _count(some_predicted, some_true, num_classes, ignore_index)
    return total


def _count(
    prediction: Integer[Tensor, " N"],
    target: Integer[Tensor, " N"],
    num_classes: int,
    ignore_index: int,
) -> Int64[Tensor, "K K"]:
    """The matrix of some pixels; takes 25 bytes for each."""
    target = target.long()
    ignored = target == ignore_index
    target = target.masked_fill(ignored, 0)
    for name, classes in (("target", target), ("prediction", prediction)):
        low, high = classes.aminmax() if classes.numel() else (0, 0)
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} holds classes from {low} to {high}, expected 0 to {num_classes - 1}"
            )
    # One more bin takes what is ignored: six times faster than to pick the others out.
    cells = (target * num_classes + prediction).masked_fill(ignored, num_classes**2)
    counts = torch.bincount(cells.flatten(), minlength=num_classes**2 + 1)[:-1]
    return counts.reshape(num_classes, num_classes)


def scores(confusion: Int64[Tensor, "K K"]) -> Scores:
    """What a confusion matrix (rows: reference) says."""
    confusion = confusion.cpu().double()
    hits, reference, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou = hits / (reference + predicted - hits)  # 0 / 0 is NaN
    f1 = 2 * hits / (reference + predicted)
    return Scores(
        iou=_floats(iou),
        f1=_floats(f1),
        accuracy=_floats(hits / reference),
        mIoU=iou.nanmean().item(),
        mF1=f1.nanmean().item(),
        OA=(hits.sum() / confusion.sum()).item(),
    )


def _floats(values: Float[Tensor, " K"]) -> tuple[float, ...]:
    return tuple(values.tolist())
