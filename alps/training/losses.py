"""Losses that do not depend on the number of processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from alps.structures.settings import check_settings
from alps.training.limits import LIMITS


class PixelLoss(nn.Module):
    """A loss of pixels, averaged over the labelled pixels of all processes.

    DDP averages the gradients of processes, whose numbers of labelled pixels differ. If each
    process divided by its own number, pixels of sparsely labelled batches would count more. With
    the number over all processes, two processes give the gradient of one process with twice the
    batch. A batch without labelled pixels has loss 0.

    Args:
        ignore_index: target value of unlabelled pixels.
        class_weights: one weight per class; None: equal weights.
    """

    weight: Float[Tensor, " K"] | None

    def __init__(self, *, ignore_index: int, class_weights: Sequence[float] | None) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)  # the configuration contains it

    def labelled_classes(
        self, target: Int64[Tensor, "B H W"]
    ) -> tuple[Bool[Tensor, "B H W"], Int64[Tensor, "B H W"]]:
        """Return which pixels are labelled, and the target with 0 at the other pixels."""
        # Without a boolean index, whose result has a size that only the device knows.
        labelled = target != self.ignore_index
        return labelled, target.where(labelled, 0)

    def average(
        self, total: Float[Tensor, ""], target: Int64[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Divide the weighted sum over labelled pixels by the weights in all processes."""
        labelled, classes = self.labelled_classes(target)
        if self.weight is None:
            mass = labelled.sum().float()
        else:
            mass = (self.weight[classes] * labelled).sum()
        processes = 1
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mass)
            processes = dist.get_world_size()
        return total * processes / mass.clamp(min=torch.finfo(torch.float32).tiny)


class CrossEntropy(PixelLoss):
    """Pixel-wise cross-entropy.

    Args:
        ignore_index: target value of unlabelled pixels.
        label_smoothing: fraction of the target spread over all classes (arXiv 1512.00567).
        class_weights: one weight per class; None: equal weights.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        *,
        ignore_index: int,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        settings = {"label_smoothing": label_smoothing, "class_weights": class_weights}
        check_settings(LIMITS["alps.training.CrossEntropy"], settings)
        super().__init__(ignore_index=ignore_index, class_weights=class_weights)
        self.label_smoothing = label_smoothing

    def forward(
        self, logits: Float[Tensor, "B K H W"], target: Int64[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Return the loss as a float32 scalar."""
        total = F.cross_entropy(
            logits.float(),
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return self.average(total, target)
