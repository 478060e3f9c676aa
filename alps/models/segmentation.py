"""The segmentation net: encoder → head → classifier."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from alps.encoders import Encoder


class Logits(NamedTuple):
    """Scores per class and pixel, before the softmax."""

    logits: Float[Tensor, "B K H W"]
    aux: Float[Tensor, "B K H W"] | None  # of the auxiliary head, in training


class SegmentationModel(nn.Module):
    """Images in, logits at their size out.

    Args:
        encoder: gives the feature maps.
        head: makes one map of them, with ``channels`` channels.
        num_classes: K.
        aux_head: a second head whose loss helps the encoder in training
            (PSPNet, arXiv 1612.01105 §3.3).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        *,
        num_classes: int,
        aux_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.classifier = _classifier(head, num_classes)
        self.aux_head = aux_head
        self.aux_classifier = None if aux_head is None else _classifier(aux_head, num_classes)
        self.register_buffer("mean", torch.tensor(encoder.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(encoder.std).view(1, -1, 1, 1))
        self.to(memory_format=torch.channels_last)  # faster on GPUs and CPUs alike

    @property
    def num_classes(self) -> int:
        """K."""
        return self.classifier.out_channels

    def forward(self, image: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"]) -> Logits:
        """Values are 0–255 and are normalised here."""
        normalised = (image - self.mean) / self.std
        features = self.encoder(normalised.contiguous(memory_format=torch.channels_last))
        aux = None
        if self.training and self.aux_head is not None and self.aux_classifier is not None:
            aux = _upsample(self.aux_classifier(self.aux_head(features)), image)
        return Logits(_upsample(self.classifier(self.head(features)), image), aux)


def _classifier(head: nn.Module, num_classes: int) -> nn.Conv2d:
    channels = head.channels
    assert isinstance(channels, int)
    classifier = nn.Conv2d(channels, num_classes, kernel_size=1)
    nn.init.normal_(classifier.weight, std=0.01)  # as in mmsegmentation: nearly uniform at first
    return classifier


def _upsample(logits: Tensor, image: Tensor) -> Tensor:
    """In float32: bfloat16 would round what lies between two logits."""
    return F.interpolate(
        logits.float(), size=image.shape[-2:], mode="bilinear", align_corners=False
    )
