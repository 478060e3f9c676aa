"""The optimiser and its schedule: who is decayed, who learns slower, and when."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from alps.errors import ConfigError
from alps.models.segmentation import SegmentationModel
from alps.structures.numbers import check_number

SCHEDULES = ("poly", "cosine", "constant")


class Optim:
    """Build an optimiser and a schedule over a whole run.

    Args:
        optimizer: takes parameter groups and ``lr``; a `torch.optim` class with its arguments.
        lr: the highest learning rate.
        weight_decay: of weights; biases, norms and other vectors are not decayed.
        layer_decay: each layer of the encoder learns this factor slower than the layer above it
            (BEiT, arXiv 2106.08254, appendix); 1 for equal rates.
        warmup: share of the steps in which the rate rises linearly.
        schedule: how it falls: ``poly`` as (1 - t)^power, ``cosine``, or not at all.
        power: of ``poly``.
        min_lr: where it ends.

    Raises:
        ConfigError: an unknown schedule, or a number out of its range.
    """

    def __init__(
        self,
        *,
        optimizer: Callable[..., Optimizer],
        lr: float,
        weight_decay: float,
        layer_decay: float = 1.0,
        warmup: float = 0.0,
        schedule: str = "poly",
        power: float = 0.9,
        min_lr: float = 0.0,
    ) -> None:
        if schedule not in SCHEDULES:
            raise ConfigError(f"optim.schedule={schedule}: choose {', '.join(SCHEDULES)}")
        for name, value, interval, what in (
            ("lr", lr, "(0, inf)", ""),
            ("weight_decay", weight_decay, "[0, inf)", ""),
            ("layer_decay", layer_decay, "(0, 1]", "a factor"),
            ("warmup", warmup, "[0, 1)", "a share of the steps"),
            ("power", power, "(0, inf)", ""),
        ):
            check_number(f"optim.{name}", value, interval, what)
        check_number("optim.min_lr", min_lr, f"[0, {lr}]", "a rate up to optim.lr,")
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.layer_decay = layer_decay
        self.warmup = warmup
        self.schedule = schedule
        self.power = power
        self.min_lr = min_lr

    def build(self, model: SegmentationModel, steps: int) -> tuple[Optimizer, LambdaLR]:
        """An optimiser over the model's trainable parameters, and its rate at each of ``steps``.

        Raises:
            ConfigError: torch's optimiser refuses its arguments.
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
        """The learning rate at ``step`` of ``steps``, as a share of the highest."""
        warmup = round(self.warmup * steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        t = min(1.0, (step - warmup) / max(1, steps - warmup))
        falling: float = {
            "poly": (1 - t) ** self.power,
            "cosine": (1 + math.cos(math.pi * t)) / 2,
            "constant": 1.0,
        }[self.schedule]
        floor = self.min_lr / self.lr
        return floor + (1 - floor) * falling


def parameter_groups(
    model: SegmentationModel, *, lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Parameters that share a learning rate and a decay, in the order of the model.

    Everything above the encoder learns at ``lr``, the encoder's last layer at ``lr·layer_decay``.
    """
    groups: defaultdict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    plain = _never_decayed(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, _, rest = name.partition(".")
        encoder = model.encoder
        below = encoder.num_layers - encoder.depth_of(rest) if part == "encoder" else 0
        decay = 0.0 if parameter.ndim <= 1 or name in plain else weight_decay
        groups[lr * layer_decay**below, decay].append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _never_decayed(model: nn.Module) -> set[str]:
    """Names that the modules themselves exempt: position embeddings, relative position tables."""

    def names() -> Iterable[str]:
        for prefix, module in model.named_modules():
            exempt = getattr(module, "no_weight_decay", None)
            if callable(exempt):
                yield from (f"{prefix}.{name}" for name in exempt())
        for name, _ in model.named_parameters():
            if name.rpartition(".")[2] in (
                "pos_embed",
                "cls_token",
                "relative_position_bias_table",
            ):
                yield name

    return set(names())
