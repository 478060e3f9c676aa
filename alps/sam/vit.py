"""Attention of SAM's ViT encoders with PyTorch's fused kernel."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from segment_anything.modeling.image_encoder import Attention, ImageEncoderViT, get_rel_pos
from torch import Tensor, nn
from torch.nn import functional as F


def fuse_attention(encoder: ImageEncoderViT) -> None:
    """Replace the attention of all blocks by `FusedAttention`: equal results up to rounding.

    On a GPU, the fused kernel does not store the attention maps, which are two thirds of the
    encoder's memory.

    Args:
        encoder: a ViT encoder of segment_anything, with its weights.
    """
    for block in encoder.blocks:
        block.attn = FusedAttention(block.attn)


class FusedAttention(nn.Module):
    """Multi-head attention with relative positions, computed by one fused kernel.

    Args:
        attention: attention of segment_anything, whose weights are used.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Return the tokens after attention."""
        attention = self.attention
        batch, height, width, channels = x.shape
        qkv = attention.qkv(x).view(batch, height * width, 3, attention.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        tokens = F.scaled_dot_product_attention(q, k, v, self._bias(q, height, width))
        tokens = tokens.transpose(1, 2).reshape(batch, height, width, channels)
        return cast(Tensor, attention.proj(tokens))

    def _bias(
        self, q: Float[Tensor, "B h N c"], height: int, width: int
    ) -> Float[Tensor, "B h N N"] | None:
        """Return what relative positions add to the products of queries and keys."""
        attention = self.attention
        if not attention.use_rel_pos:
            return None
        grid = q.view(*q.shape[:2], height, width, -1)
        along_y = get_rel_pos(height, height, attention.rel_pos_h)
        along_x = get_rel_pos(width, width, attention.rel_pos_w)
        bias_y = torch.einsum("bnhwc,hkc->bnhwk", grid, along_y)
        bias_x = torch.einsum("bnhwc,wkc->bnhwk", grid, along_x)
        # Contiguous, so that the sum is too, and `flatten` does not copy it.
        bias = bias_y.contiguous()[..., :, None] + bias_x.contiguous()[..., None, :]
        return bias.flatten(4).flatten(2, 3)
