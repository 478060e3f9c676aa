"""Losses on which wrong labels have less influence than on cross-entropy.

Each is a function of the predicted probability ``p`` of the class in the label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from alps.structures.settings import check_settings
from alps.training.limits import LIMITS
from alps.training.losses import PixelLoss

#: Value of the logarithm of 0 in reverse cross-entropy (arXiv 1908.06112, section 4.1).
LOG_ZERO = -4.0


class RobustLoss(PixelLoss):
    """The mean over labelled pixels of a loss that depends on log-probabilities."""

    def forward(
        self, logits: Float[Tensor, "B K H W"], target: Int64[Tensor, "B H W"]
    ) -> Float[Tensor, ""]:
        """Return the loss as a float32 scalar."""
        labelled, classes = self.labelled_classes(target)
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        log_p = log_probabilities.gather(1, classes[:, None])[:, 0]
        losses = self.pixel_losses(log_probabilities, log_p) * labelled
        if self.weight is not None:
            losses = losses * self.weight[classes]
        return self.average(losses.sum(), target)

    def pixel_losses(
        self, log_probabilities: Float[Tensor, "B K H W"], log_p: Float[Tensor, "B H W"]
    ) -> Float[Tensor, "B H W"]:
        """Return the loss of each pixel.

        Args:
            log_probabilities: logarithm of the probability of each class.
            log_p: logarithm of the probability of the class in the label.
        """
        raise NotImplementedError


class GeneralizedCrossEntropy(RobustLoss):
    """Generalised cross-entropy (1 - p^q) / q (arXiv 1805.07836).

    Args:
        ignore_index: target value of unlabelled pixels.
        q: robustness. Towards 0, the loss approaches cross-entropy; with 1, it is half the mean
            absolute error.
        class_weights: one weight per class; None: equal weights.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self, *, ignore_index: int, q: float = 0.7, class_weights: Sequence[float] | None = None
    ) -> None:
        settings = {"q": q, "class_weights": class_weights}
        check_settings(LIMITS["alps.training.GeneralizedCrossEntropy"], settings)
        super().__init__(ignore_index=ignore_index, class_weights=class_weights)
        self.q = q

    def pixel_losses(
        self, log_probabilities: Float[Tensor, "B K H W"], log_p: Float[Tensor, "B H W"]
    ) -> Float[Tensor, "B H W"]:
        """Return the loss of each pixel."""
        return -(self.q * log_p).expm1() / self.q


class SymmetricCrossEntropy(RobustLoss):
    """Cross-entropy plus reverse cross-entropy, -alpha log p + 4 beta (1 - p) (arXiv 1908.06112).

    Args:
        ignore_index: target value of unlabelled pixels.
        alpha: weight of cross-entropy.
        beta: weight of reverse cross-entropy.
        class_weights: one weight per class; None: equal weights.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        *,
        ignore_index: int,
        alpha: float = 0.1,
        beta: float = 1.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        settings = {"alpha": alpha, "beta": beta, "class_weights": class_weights}
        check_settings(LIMITS["alps.training.SymmetricCrossEntropy"], settings)
        super().__init__(ignore_index=ignore_index, class_weights=class_weights)
        self.alpha = alpha
        self.beta = beta

    def pixel_losses(
        self, log_probabilities: Float[Tensor, "B K H W"], log_p: Float[Tensor, "B H W"]
    ) -> Float[Tensor, "B H W"]:
        """Return the loss of each pixel."""
        return -self.alpha * log_p + self.beta * LOG_ZERO * log_p.expm1()


class BootstrappedCrossEntropy(RobustLoss):
    """Cross-entropy with labels mixed with the prediction (arXiv 1412.6596).

    Args:
        ignore_index: target value of unlabelled pixels.
        beta: fraction of the label in the mixture; 1 is cross-entropy. The authors use 0.8 with
            ``hard`` and 0.95 without.
        hard: whether to mix in the most probable class instead of the probabilities.
        class_weights: one weight per class; None: equal weights.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        *,
        ignore_index: int,
        beta: float = 0.8,
        hard: bool = True,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        settings = {"beta": beta, "hard": hard, "class_weights": class_weights}
        check_settings(LIMITS["alps.training.BootstrappedCrossEntropy"], settings)
        super().__init__(ignore_index=ignore_index, class_weights=class_weights)
        self.beta = beta
        self.hard = hard

    def pixel_losses(
        self, log_probabilities: Float[Tensor, "B K H W"], log_p: Float[Tensor, "B H W"]
    ) -> Float[Tensor, "B H W"]:
        """Return the loss of each pixel."""
        if self.hard:
            predicted = log_probabilities.amax(dim=1)
        else:
            predicted = (log_probabilities.exp() * log_probabilities).sum(dim=1)
        return -self.beta * log_p - (1 - self.beta) * predicted
