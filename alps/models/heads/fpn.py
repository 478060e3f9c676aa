"""Panoptic FPN's semantic branch (arXiv 1901.02446 §3.2) on a feature pyramid (1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

GROUPS = 32  # groups of the group norm (arXiv 1803.08494)


class FPN(nn.Module):
    """Small head with group norms, which trains with any batch size.

    Args:
        in_channels: number of channels of each encoder level, the finest first.
        channels: number of output channels, a multiple of 32.
        pyramid_channels: number of channels of the feature pyramid.
        dropout: fraction of the output channels that are zeroed in training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 128,
        pyramid_channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.pyramid = FeaturePyramidNetwork(list(in_channels), pyramid_channels)
        # A level 2^n times coarser than the finest needs n steps of convolution and upsampling.
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    _step(pyramid_channels if i == 0 else channels, channels, upsample=level > 0)
                    for i in range(max(1, level))
                )
            )
            for level in range(len(in_channels))
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """Return a feature map of the size of the finest level."""
        levels = self.pyramid({str(i): feature for i, feature in enumerate(features)}).values()
        maps = [branch(level) for branch, level in zip(self.branches, levels, strict=True)]
        return cast(Tensor, self.dropout(sum(maps)))


def _step(in_channels: int, channels: int, *, upsample: bool) -> nn.Sequential:
    step = nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False),
        nn.GroupNorm(GROUPS, channels),
        nn.ReLU(),
    )
    if upsample:
        step.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return step
