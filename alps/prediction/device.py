"""Choice of the device and the precision for training and prediction."""

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


def choose_precision(precision: str, accelerator: str) -> str:
    """Return Lightning's name of a precision; ``auto`` is the fastest of the hardware.

    That is ``bf16-mixed`` on GPUs that compute in bfloat16, and otherwise ``32-true``, which on a
    CPU gives the same results as earlier versions.

    Args:
        precision: ``auto``, or a precision of Lightning, which is returned unchanged.
        accelerator: Lightning's name of the device, from `choose_accelerator`.
    """
    if precision != "auto":
        return precision
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"
