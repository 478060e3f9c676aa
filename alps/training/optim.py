"""Optimiser, parameter groups and learning-rate schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from alps.errors import ConfigError
from alps.models.segmentation import SegmentationModel
from alps.structures.settings import check_attributes
from alps.training.limits import LIMITS

#: Last parts of the names of parameters without weight decay.
POSITIONS = ("pos_embed", "cls_token", "relative_position_bias_table")


class Optim:
    """Builds an optimiser and a learning-rate schedule for a run.

    Args:
        optimizer: callable that takes parameter groups and ``lr``, such as a partial of a
            `torch.optim` class.
        lr: highest learning rate.
        weight_decay: weight decay, except for biases, norms and other vectors.
        layer_decay: factor between the learning rates of an encoder layer and of the next layer
            (BEiT, arXiv 2106.08254, appendix); 1 for equal rates.
        warmup: fraction of the steps in which the learning rate rises linearly.
        schedule: shape of the decrease: ``poly`` for (1 - t)^power, ``cosine``, or ``constant``.
        power: exponent of ``poly``.
        min_lr: learning rate at the end of the run.

    Raises:
        ConfigError: the schedule is unknown, or a number is out of range.
    """

    def __init__(
        self,
        *,
        optimizer: Callable[..., Optimizer],
        lr: float,
        weight_decay: float,
        layer_decay: float = 1.0,
        warmup: float = 0.02,
        schedule: str = "cosine",
        power: float = 0.9,
        min_lr: float = 0.0,
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.layer_decay = layer_decay
        self.warmup = warmup
        self.schedule = schedule
        self.power = power
        self.min_lr = min_lr
        check_attributes(LIMITS["alps.training.Optim"], self)

    def build(self, model: SegmentationModel, steps: int) -> tuple[Optimizer, LambdaLR]:
        """Return an optimiser of the trainable parameters, and its learning-rate schedule.

        Args:
            model: the model to optimise.
            steps: number of optimiser steps of the run.

        Returns:
            The optimiser and the learning-rate schedule.

        Raises:
            ConfigError: the optimiser rejects its arguments.
        """
        groups = parameter_groups(
            model, lr=self.lr, weight_decay=self.weight_decay, layer_decay=self.layer_decay
        )
        try:
            optimizer = self.optimizer(groups, lr=self.lr)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"no optimiser can be built with optim.optimizer={self.optimizer}: {error}"
            ) from error
        return optimizer, LambdaLR(optimizer, lambda step: self.factor(step, steps))

    def factor(self, step: int, steps: int) -> float:
        """Return the learning rate at ``step`` of ``steps`` as a fraction of the highest rate."""
        warmup = round(self.warmup * steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        t = min(1.0, (step - warmup) / max(1, steps - warmup))
        decrease: float = {
            "poly": (1 - t) ** self.power,
            "cosine": (1 + math.cos(math.pi * t)) / 2,
            "constant": 1.0,
        }[self.schedule]
        floor = self.min_lr / self.lr
        return floor + (1 - floor) * decrease


def parameter_groups(
    model: SegmentationModel, *, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return groups of parameters with equal learning rate and weight decay, in model order.

    Rates and decays equal those of `timm.optim.param_groups_layer_decay`. That function is not
    used, because its rates only affect timm's optimisers, it ignores the head, and its two groups
    per layer do not fit the optimiser states of earlier checkpoints.

    Args:
        model: the model.
        lr: learning rate of the head and the classifier; that of the encoder's last layer is
            ``lr·layer_decay``.
        weight_decay: weight decay, except for vectors.
        layer_decay: factor between the learning rates of an encoder layer and of the next layer.
    """
    groups: defaultdict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    exempt = _never_decayed(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, _, rest = name.partition(".")
        encoder = model.encoder
        layers_above = encoder.num_layers - encoder.depth_of(rest) if part == "encoder" else 0
        decay = 0.0 if parameter.ndim <= 1 or name in exempt else weight_decay
        groups[lr * layer_decay**layers_above, decay].append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _never_decayed(model: nn.Module) -> set[str]:
    """Return the names of matrices without weight decay, such as position embeddings."""
    names = {name for name, _ in model.named_parameters() if name.rpartition(".")[2] in POSITIONS}
    for prefix, module in model.named_modules():
        if callable(exempt := getattr(module, "no_weight_decay", None)):
            names |= {f"{prefix}.{name}" for name in exempt()}
    return names
