"""MobileSAM's image encoder (arXiv 2306.14289): timm's TinyViT and SAM's neck.

timm's ``tiny_vit_5m_224`` has the layers of MobileSAM's encoder and accepts any input size. There
are two differences: MobileSAM's last downsampling keeps the resolution (1024 px in, 64 × 64 out),
and its weights have different names (see `rename_keys`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import Attention, ConvNorm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

#: Replacements of MobileSAM's names by timm's, in this order, in the name after "image_encoder.".
RENAMES = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"\b(conv\d|local_conv)\.c\.", r"\1.conv."),
    (r"^layers\.", "stages."),
)
#: Weights to skip: the classifier of the distillation, and indices that timm computes itself.
UNUSED = re.compile(r"^(head|norm_head)\.|\.attention_bias_idxs$")


class InPlaceGELU(nn.Module):
    """GELU in place, for inference: allocating 64 MB takes as long as computing the function."""

    def forward(self, x: Tensor) -> Tensor:
        """Overwrite ``x``, of any shape, with its GELU."""
        return cast(Tensor, torch.ops.aten.gelu_(x))


class MobileEncoder(nn.Module):
    """Encoder from normalised pixels (B, 3, 1024, 1024) to an embedding (B, 256, 64, 64)."""

    img_size = 1024

    def __init__(self) -> None:
        super().__init__()
        trunk: Any = timm.create_model("tiny_vit_5m_224", num_classes=0)
        trunk.head = nn.Identity()
        trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.trunk = trunk
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, kernel_size=1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def fold(self) -> None:
        """Optimise for inference: equal results up to rounding, in about 60 % of the time on a CPU.

        Fold each batch norm into its convolution, order weights for channels-last images, apply
        GELUs in place, and give attention biases the four axes required by PyTorch's fused kernel.
        """
        modules: list[Any] = list(self.trunk.modules())
        for module in modules:
            if isinstance(module, ConvNorm):
                module.conv = fuse_conv_bn_eval(module.conv, module.bn)
                module.add_module("bn", nn.Identity())
            elif isinstance(module, Attention):
                biases = partial(_four_axes, module.get_attention_biases)
                module.get_attention_biases = biases  # type: ignore[method-assign]  # only of this instance
            for name, child in module.named_children():
                if isinstance(child, nn.GELU):
                    module.add_module(name, InPlaceGELU())
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 256 h w"]:
        """Return the embedding of normalised pixels, at stride 16."""
        x = x.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self.neck(self.trunk.forward_features(x)))


def _four_axes(
    biases: Callable[[torch.device], Float[Tensor, "h q k"]], device: torch.device
) -> Float[Tensor, "1 h q k"]:
    """Return attention biases with a leading batch axis."""
    return biases(device)[None]


def rename_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return MobileSAM's official state dict with the names of `MobileEncoder`.

    MobileSAM counts a downsampling as the last layer of a stage, timm as the first layer of the
    next stage.
    """
    prefix = "image_encoder."
    renamed = {}
    for key, value in state.items():
        name = key.removeprefix(prefix)
        if name == key or name.startswith("neck."):
            renamed[key] = value
            continue
        if UNUSED.search(name):
            continue
        downsample = re.match(r"^layers\.(\d+)\.downsample\.", name)
        if downsample:
            name = f"layers.{int(downsample[1]) + 1}.downsample.{name[downsample.end() :]}"
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[f"{prefix}trunk.{name}"] = value
    return renamed
