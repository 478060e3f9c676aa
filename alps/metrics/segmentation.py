"""Scores of index maps against a reference, from one exact confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

#: Number of pixels counted at a time.
CHUNK_PIXELS = 1 << 20


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in [0, 1]; NaN if undefined.

    IoU and F1 of a class are undefined (NaN) if it occurs neither in the reference nor in the
    prediction, and the means exclude it, as torchmetrics' macro average does. They are 0 for a
    class that is only predicted. The accuracy of a class is the fraction of its reference pixels
    that are predicted correctly.
    """

    iou: tuple[float, ...]
    f1: tuple[float, ...]
    accuracy: tuple[float, ...]
    mIoU: float  # noqa: N815 - the usual spelling
    mF1: float  # noqa: N815 - the usual spelling
    OA: float

    @property
    def num_scored(self) -> int:
        """Number of classes in the means."""
        return sum(not math.isnan(iou) for iou in self.iou)

    def foreground(self, background: int) -> float:
        """Return the mean IoU of all classes except ``background``."""
        iou = self.iou[:background] + self.iou[background + 1 :]
        return torch.tensor(iou).nanmean().item()


def confusion_matrix(
    prediction: Integer[Tensor, "*pixels"],
    target: Integer[Tensor, "*pixels"],
    num_classes: int,
    ignore_index: int,
) -> Int64[Tensor, "K K"]:
    """Count pixels by class in the reference (rows) and in the prediction (columns).

    The matrices of several images can be added. The function runs on the device of its arguments,
    and the memory it needs does not depend on their size.

    Args:
        prediction: classes in [0, K).
        target: classes in [0, K), or ``ignore_index``, which is not counted.
        num_classes: number of classes, K.
        ignore_index: value of pixels without a class; it may lie inside [0, K).

    Returns:
        The confusion matrix.

    Raises:
        ValueError: a class is not in [0, K), so that its pixels would be counted as another class.
    """
    total = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=target.device)
    parts = (torch.split(classes.flatten(), CHUNK_PIXELS) for classes in (prediction, target))
    for predicted_part, target_part in zip(*parts, strict=True):
        total += _count(predicted_part, target_part, num_classes, ignore_index)
    return total


def _count(
    prediction: Integer[Tensor, " N"],
    target: Integer[Tensor, " N"],
    num_classes: int,
    ignore_index: int,
) -> Int64[Tensor, "K K"]:
    """Return the confusion matrix of some pixels; needs 25 bytes per pixel."""
    target = target.long()
    ignored = target == ignore_index
    target = target.masked_fill(ignored, 0)
    for name, classes in (("target", target), ("prediction", prediction)):
        low, high = classes.aminmax() if classes.numel() else (0, 0)
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} contains classes from {low} to {high}, expected 0 to {num_classes - 1}"
            )
    # An extra bin for ignored pixels is six times faster than removing these pixels.
    cells = (target * num_classes + prediction).masked_fill(ignored, num_classes**2)
    counts = torch.bincount(cells.flatten(), minlength=num_classes**2 + 1)[:-1]
    return counts.reshape(num_classes, num_classes)


def scores(confusion: Int64[Tensor, "K K"]) -> Scores:
    """Compute the scores of a confusion matrix (rows: reference, columns: prediction)."""
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
