"""U-Net's expanding path (arXiv 1505.04597 §2) over the levels of any encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alps.models.heads.conv import ConvModule, resize_as


class UNet(nn.Module):
    """Upsample, concatenate the encoder's feature map and apply two 3×3 convolutions, per level.

    The result has the size of the encoder's finest level, stride 4. The original U-Net upsamples to
    full resolution.

    Args:
        in_channels: number of channels of each encoder level, the finest first.
        channels: number of output channels, which doubles at each coarser level.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        *skips, coarser = in_channels
        self.blocks = nn.ModuleList()  # the coarsest first
        for level, skip in reversed(list(enumerate(skips))):
            width = channels * 2**level
            block = nn.Sequential(ConvModule(coarser + skip, width, 3), ConvModule(width, width, 3))
            self.blocks.append(block)
            coarser = width

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """Return a feature map of the size of the finest level."""
        *skips, x = features
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([resize_as(x, skip), skip], dim=1))
        return x
