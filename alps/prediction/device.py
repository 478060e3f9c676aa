"""Choice of the device for training and prediction."""

from __future__ import annotations

import torch

from alps.errors import ConfigError


def choose_accelerator(device: str) -> str:
    """Return Lightning's name of a device; ``auto`` is a GPU, or the CPU if there is none.

    Raises:
        ConfigError: a GPU is requested, but there is none.
    """
    if device in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"accelerator={device}, but torch {torch.__version__} finds no GPU; check the driver "
            "and the build of torch, or use the CPU: trainer=cpu, in Python device='cpu'"
        )
    return "cpu" if device == "auto" and not torch.cuda.is_available() else device
