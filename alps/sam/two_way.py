"""SAM's two-way transformer with factorised image tokens (arXiv 2304.02643, appendix A).

The original decoder updates an array of 4096 image tokens × 256 channels for each prompt. All
prompts of an image start from the same array F; each layer adds a weighted sum of a few tokens to
the array and normalises it. So after any layer the image tokens of a prompt are

    Y = a ⊙ F + Uᵀ R + β                                                                      (1)

    F (N, C)  image embedding, centred and scaled by γ of the norms so far; equal for all prompts
    a (N)     product of 1/σ of the norms so far, for this prompt
    U (r, N)  attention weights of the image on the prompt's tokens, times 1/σ of the later norms
    R (r, C)  what one unit of each weight adds, centred and scaled like F
    β (C)     bias of the last norm.

A layer adds rows to U and R. The T weights of a head sum to one, so T − 1 of them suffice: with
values v and the output projection Wo, head h adds rows (v_t − v_T)·Wo_h for t < T with weights
A_ht, and one row of weight 1 holds β, the bias of Wo, and v_T·Wo: 8·6 + 1 = 49 rows for 7 tokens.

The norm centres F and R over the channels and needs, for each image token,

    C·σ² = a²‖F‖² + 2a·Σ_r U ⊙ (R Fᵀ) + Σ_r U ⊙ (R Rᵀ U),                                       (2)

where R Fᵀ is cheap too, since R is v times matrices that all prompts share. A product with Y is a
product with F, computed once per image, and one of rank r: Y W = a ⊙ (F W) + Uᵀ (R W) + β W. So Y
is never built, not even for the upscaling. The method is exact and needs no training.

Letters: B prompts, T tokens of a prompt (5 outputs and the sparse prompt), N image tokens,
C channels, h heads, d channels per head, l layers, M masks per prompt, S = 4 subpixels × channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Depth:
    """Products with F before a layer, which the attention and norms of all prompts use."""

    keys: Float[Tensor, "h d N"]  # F Wk, for attention from tokens to image
    values: Float[Tensor, "h N d"]  # F Wv
    queries: Float[Tensor, "_ d N"]  # F Wq, for attention from image to tokens; empty at the end
    square: Float[Tensor, " N"]  # ‖F‖² before γ; like the fields below, unused at depth 0
    outs: tuple[Float[Tensor, "h d N"], ...]  # Wo Fᵀ of each layer so far, before γ
    biases: Float[Tensor, "l N"]  # (β + bias of Wo) Fᵀ of each layer so far, before γ


@dataclass(slots=True)
class ImageTokens:
    """Image tokens of B prompts as the factors of (1); at depth 0 they equal F."""

    a: Float[Tensor, "B N"]
    u: Float[Tensor, "B r N"]
    r: Float[Tensor, "B r C"]
    buffer: Float[Tensor, "B rows N"]  # buffer of U, whose first rows are u
    values: tuple[Float[Tensor, "B T hd"], ...] = ()  # per layer: v − v_T for t < T, then v_T


class CrossAttention:
    """Cross-attention between tokens and image, in either direction.

    The scores are symmetric in queries and keys, so one class serves both directions.

    Args:
        attention: segment_anything's attention.
        tokens: projection of the tokens to queries (token to image) or keys (image to token).
        image: projection of the image to keys or queries, respectively.
        position: positional encoding of the image.
        beta: bias of the image tokens' last norm.
    """

    def __init__(
        self,
        attention: Any,
        tokens: nn.Linear,
        image: nn.Linear,
        position: Float[Tensor, "N C"],
        beta: Float[Tensor, " C"],
    ) -> None:
        h = int(attention.num_heads)
        d = int(attention.internal_dim) // h
        self.heads, self.width = h, d
        self.tokens = tokens.weight / math.sqrt(d), tokens.bias / math.sqrt(d)
        self.image = image.weight.view(h, d, -1)
        # Bias and β cancel in a softmax over the image, but not in one over the tokens.
        self.position = F.linear(position + beta, image.weight, image.bias).T.reshape(h, d, -1)
        v, out = attention.v_proj, attention.out_proj
        self.v, self.v_bias = v.weight.view(h, d, -1), v.bias
        self.v_beta = F.linear(beta, v.weight, v.bias).view(h, 1, d)
        self.out, self.out_bias = out.weight.T.contiguous().view(h, d, -1), out.bias

    def project(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "h BT d"]:
        """Project the tokens for the scores, heads first."""
        return self.split(F.linear(tokens, *self.tokens))

    def split(self, x: Float[Tensor, "B T hd"]) -> Float[Tensor, "h BT d"]:
        """Split into heads, with the heads first and the rows of all prompts concatenated."""
        return x.reshape(-1, self.heads, self.width).transpose(0, 1)

    def join(self, x: Float[Tensor, "h BT d"], prompts: int) -> Float[Tensor, "B T hd"]:
        """Invert `split`: concatenate heads and separate prompts."""
        return x.transpose(0, 1).reshape(prompts, -1, self.heads * self.width)


class FoldedTransformer:
    """segment_anything's TwoWayTransformer with image tokens as factors.

    Args:
        transformer: segment_anything's transformer, with its weights.
        position: positional encoding of the image.
        group: number of prompts whose image tokens are computed at a time.
    """

    def __init__(self, transformer: Any, position: Float[Tensor, "N C"], group: int) -> None:
        self.group = group
        self.layers: list[Any] = list(transformer.layers)
        self.norm: Any = transformer.norm_final_attn
        beta = torch.zeros_like(position[0])
        self.token_to_image: list[CrossAttention] = []
        self.image_to_token: list[CrossAttention] = []
        for layer in self.layers:
            to_image, to_token = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            self.token_to_image.append(
                CrossAttention(to_image, to_image.q_proj, to_image.k_proj, position, beta)
            )
            self.image_to_token.append(
                CrossAttention(to_token, to_token.k_proj, to_token.q_proj, position, beta)
            )
            # The layer adds its own bias and β of the previous norm to every image token.
            self.image_to_token[-1].out_bias = to_token.out_proj.bias + beta
            beta = layer.norm4.bias
        final = transformer.final_attn_token_to_image
        self.token_to_image.append(
            CrossAttention(final, final.q_proj, final.k_proj, position, beta)
        )
        self.beta = beta  # bias of the image tokens after the last layer

    def prepare(self, f: Float[Tensor, "N C"]) -> tuple[tuple[Depth, ...], Float[Tensor, "N C"]]:
        """Project an image once for all its prompts.

        Args:
            f: the image tokens before the first layer.

        Returns:
            The products with F at each depth, and F after the last layer.
        """
        square, biases, offsets = f[:, 0], f[:0], f[:, :0].T
        projected: tuple[Tensor, ...] = ()
        outs: list[Tensor] = []
        depths: list[Depth] = []
        for depth, attention in enumerate(self.token_to_image):
            keys = torch.matmul(attention.image, f.T)
            values = torch.matmul(f, attention.v.mT)
            queries = keys[:0]
            if depth < len(self.layers):
                queries = torch.matmul(self.image_to_token[depth].image, f.T)
            if depth == 0:  # Y = F, so terms of the position alone are equal for all prompts
                keys = keys + attention.position
                values = values + attention.v_beta
                queries = queries + self.image_to_token[0].position
            depths.append(Depth(keys, values, queries, square, projected, offsets))
            if depth == len(self.layers):
                break
            # The effect of the layer's norm on F and on the rows of R.
            gamma = self.layers[depth].norm4.weight
            added = self.image_to_token[depth]
            f = f - f.mean(1, keepdim=True)
            outs = [out - out.mean(2, keepdim=True) for out in (*outs, added.out)]
            biases = torch.cat([biases, added.out_bias[None]])
            biases = biases - biases.mean(1, keepdim=True)
            square = f.square().sum(1)
            projected = tuple(torch.matmul(out, f.T) for out in outs)
            offsets = biases @ f.T
            f, biases, outs = f * gamma, biases * gamma, [out * gamma for out in outs]
        return tuple(depths), f

    def __call__(
        self, depths: tuple[Depth, ...], start: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B T C"], tuple[ImageTokens, ...]]:
        """Run all layers on a batch of prompts.

        Args:
            depths: products from `prepare`.
            start: tokens of the prompts, which are also their positional encoding.

        Returns:
            The tokens of the batch, and the image tokens of each group as factors.
        """
        states = tuple(self._start(depths[0], part) for part in torch.split(start, self.group))

        def attend(depth: int, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
            parts = torch.split(tokens + start, self.group)
            attended = [
                self._attend_to_image(depth, depths[depth], *pair)
                for pair in zip(states, parts, strict=True)
            ]
            return tokens + torch.cat(attended)

        tokens = start
        for depth, layer in enumerate(self.layers):
            if layer.skip_first_layer_pe:
                tokens = layer.self_attn(tokens, tokens, tokens)
            else:
                at = tokens + start
                tokens = tokens + layer.self_attn(at, at, tokens)
            tokens = layer.norm2(attend(depth, layer.norm1(tokens)))
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            ats, values = torch.split(tokens + start, self.group), torch.split(tokens, self.group)
            for state, at, value in zip(states, ats, values, strict=True):
                self._attend_to_tokens(depth, depths[depth], state, at, value)
                self._normalise(depths[depth + 1], state, layer.norm4)
        tokens = attend(len(self.layers), tokens)
        return self.norm(tokens), states

    def _start(self, part: Depth, start: Float[Tensor, "B T C"]) -> ImageTokens:
        """Return the image tokens before the first layer, with a buffer for all layers."""
        b, t, c = start.shape
        rows = self.token_to_image[0].heads * (t - 1) + 1
        buffer = start.new_empty(b, rows * len(self.layers), part.keys.shape[2])
        return ImageTokens(
            torch.ones_like(buffer[:, 0]), buffer[:, :0], start.new_empty(b, 0, c), buffer
        )

    def _scores(
        self,
        attention: CrossAttention,
        image: Float[Tensor, "h d N"],
        state: ImageTokens,
        query: Float[Tensor, "h BT d"],
    ) -> Float[Tensor, "B h T N"]:
        """Return the scores query·(Y W + position W)ᵀ of every head."""
        b, h = len(state.u), attention.heads

        def prompts_first(x: Float[Tensor, "h BT _"]) -> Float[Tensor, "B h T _"]:
            return x.view(h, b, x.shape[1] // b, x.shape[2]).transpose(0, 1)

        scores = prompts_first(torch.bmm(query, image))
        if not state.values:
            return scores
        # Multiplying the weights first, (query Wᵀ) Rᵀ U, keeps the matrices small.
        rows = prompts_first(torch.bmm(query, attention.image)).flatten(1, 2)
        low_rank = torch.bmm(torch.bmm(rows, state.r.mT), state.u).view(scores.shape)
        low_rank += prompts_first(torch.bmm(query, attention.position))
        return low_rank.addcmul_(scores, state.a[:, None, None])

    def _attend_to_image(
        self, depth: int, part: Depth, state: ImageTokens, at: Float[Tensor, "B T C"]
    ) -> Float[Tensor, "B T C"]:
        """Return the output of the attention from tokens to image."""
        attention = self.token_to_image[depth]
        b = len(at)
        weights = self._scores(attention, part.keys, state, attention.project(at)).softmax(-1)

        def heads_first(x: Float[Tensor, "B h T _"]) -> Float[Tensor, "h BT _"]:
            return x.transpose(0, 1).flatten(1, 2)

        if not state.values:
            attended = torch.bmm(heads_first(weights), part.values)
        else:
            # A (Y Wv) = (A ⊙ a) (F Wv) + ((A Uᵀ) R) Wv + β Wv; a row of A sums to one.
            rows = torch.bmm(torch.bmm(weights.flatten(1, 2), state.u.mT), state.r)
            rows = heads_first(rows.view(b, attention.heads, -1, rows.shape[2]))
            attended = torch.baddbmm(attention.v_beta, rows, attention.v.mT)
            weights *= state.a[:, None, None]
            attended.baddbmm_(heads_first(weights), part.values)
        out: Tensor = attention.out.flatten(0, 1)
        return torch.addmm(attention.out_bias, attention.join(attended, b).flatten(0, 1), out).view(
            at.shape
        )

    def _attend_to_tokens(
        self,
        depth: int,
        part: Depth,
        state: ImageTokens,
        at: Float[Tensor, "B T C"],
        tokens: Float[Tensor, "B T C"],
    ) -> None:
        """Add the rows of the attention from image to tokens to U and R."""
        attention, queries = self.image_to_token[depth], part.queries
        b, t, c = tokens.shape
        n = state.buffer.shape[2]
        weights = self._scores(attention, queries, state, attention.project(at)).softmax(2)
        before = state.u.shape[1]
        after = before + attention.heads * (t - 1) + 1
        state.buffer[:, before : after - 1].view(b, -1, t - 1, n).copy_(weights[:, :, :-1])
        state.buffer[:, after - 1] = 1
        v = F.linear(tokens, attention.v.flatten(0, 1), attention.v_bias)
        v = torch.cat([v[:, :-1] - v[:, -1:], v[:, -1:]], dim=1)
        rows = torch.bmm(attention.split(v[:, :-1]), attention.out)
        rows = rows.view(-1, b, t - 1, c).transpose(0, 1).flatten(1, 2)
        last = v[:, -1:] @ attention.out.flatten(0, 1) + attention.out_bias
        state.u = state.buffer[:, :after]
        state.r = torch.cat([state.r, rows, last], dim=1)
        state.values = (*state.values, v)

    def _normalise(self, part: Depth, state: ImageTokens, norm: Any) -> None:
        """Apply the layer norm to Y, by (2)."""
        r = state.r - state.r.mean(2, keepdim=True)
        variance = torch.bmm(torch.bmm(r, r.mT), state.u).mul_(state.u).sum(1)
        cross = torch.zeros_like(state.a)
        rows = state.u.shape[1] // len(state.values)
        for i, (v, out) in enumerate(zip(state.values, part.outs, strict=True)):
            u = state.u[:, rows * i : rows * (i + 1)]
            b, n = len(u), u.shape[2]
            products = torch.bmm(self.image_to_token[i].split(v[:, :-1]), out)
            weights = u[:, :-1].view(b, len(out), -1, n)
            products = weights * products.view(len(out), b, -1, n).transpose(0, 1)
            last = torch.addmm(part.biases[i], v[:, -1], out.flatten(0, 1))
            cross += products.flatten(1, 2).sum(1).addcmul_(last, u[:, -1])
        variance += state.a * (2 * cross + state.a * part.square)
        s = torch.rsqrt(variance / r.shape[2] + norm.eps)
        state.a = state.a * s
        state.u *= s[:, None]
        state.r = r * norm.weight
