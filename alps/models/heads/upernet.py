"""UPerNet (arXiv 1807.10221): pyramid pooling of the coarsest level and a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alps.errors import ConfigError
from alps.models.heads.conv import ConvModule, resize_as

POOL_SCALES = (1, 2, 3, 6)


class UPerNet(nn.Module):
    """Semantic head with the layers and parameter names of mmsegmentation's ``UPerHead``.

    Args:
        in_channels: number of channels of each encoder level, the finest first.
        channels: number of channels of the intermediate maps and of the output.
        dropout: fraction of the output channels that are zeroed in training.
    """

    def __init__(
        self, in_channels: Sequence[int], *, channels: int = 512, dropout: float = 0.1
    ) -> None:
        super().__init__()
        *finer, coarsest = in_channels
        self.channels = channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), ConvModule(coarsest, channels, 1))
            for scale in POOL_SCALES
        )
        self.bottleneck = ConvModule(coarsest + len(POOL_SCALES) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(c, channels, 1) for c in finer)
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in finer)
        self.fpn_bottleneck = ConvModule(len(in_channels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """Return a feature map of the size of the finest level.

        Raises:
            ConfigError: a training batch has one image per device, which gives the batch norm of
                the 1 × 1 pooling no statistics.
        """
        *finer, coarsest = features
        norm = cast(ConvModule, cast(nn.Sequential, self.psp_modules[0])[1]).bn
        # SyncBatchNorm is not a BatchNorm2d; its statistics cover the images of all devices.
        if self.training and coarsest.shape[0] == 1 and isinstance(norm, nn.BatchNorm2d):
            raise ConfigError(
                "UPerNet got a batch of 1 image in training, expected 2 or more per device, which "
                "the batch norm of its 1 x 1 pooling needs; set data.batch_size=2, or head=fpn"
            )
        pooled = [resize_as(pool(coarsest), coarsest) for pool in self.psp_modules]
        top = self.bottleneck(torch.cat([coarsest, *pooled], dim=1))

        laterals = [conv(x) for conv, x in zip(self.lateral_convs, finer, strict=True)]
        level_sum = top
        for i in reversed(range(len(laterals))):
            level_sum = laterals[i] = laterals[i] + resize_as(level_sum, laterals[i])
        maps = [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]
        fused = torch.cat([resize_as(x, maps[0]) for x in [*maps, top]], dim=1)
        return cast(Tensor, self.dropout(self.fpn_bottleneck(fused)))
