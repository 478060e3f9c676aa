"""The convolution block of heads."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution, batch norm and ReLU, with the names and initialisation of mmcv's ConvModule.

    Args:
        in_channels: number of input channels.
        channels: number of output channels.
        kernel_size: side of the square kernel, odd.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Return a feature map of the same height and width."""
        return F.relu(cast(Tensor, self.bn(self.conv(x))))


def resize_as(x: Float[Tensor, "B C _ _"], like: Tensor) -> Float[Tensor, "B C _ _"]:
    """Resize a feature map bilinearly to the height and width of ``like``."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
