"""FCN (arXiv 1411.4038): a convolution on one level, used as the auxiliary head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from alps.models.heads.conv import ConvModule


class FCN(nn.Module):
    """One 3×3 convolution, like mmsegmentation's ``FCNHead`` as an auxiliary head.

    Args:
        in_channels: number of channels of each encoder level, the finest first.
        channels: number of output channels.
        level: index of the input level; 2 is stride 16.
        dropout: fraction of the output channels that are zeroed in training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 256,
        level: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.level = level
        self.conv = ConvModule(in_channels[level], channels, 3)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """Return a feature map of the size of the input level."""
        return cast(Tensor, self.dropout(self.conv(features[self.level])))
