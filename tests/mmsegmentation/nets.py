"""Nets in which no tensor is zero or one, so that none can be mistaken for another."""

from torch import nn


def randomise(model: nn.Module) -> nn.Module:
    """Weights and statistics that keep the size of what passes."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and name not in ("mean", "std"):
            if tensor.ndim == 1:
                nn.init.uniform_(tensor, 0.5, 1)
            else:
                nn.init.normal_(tensor, std=0.05)
    return model
