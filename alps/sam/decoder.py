"""SAM's mask decoder with the image side folded away (arXiv 2304.02643, appendix A).

The stock decoder carries an array of 4096 image tokens × 256 channels per prompt through its
layers. All prompts of an image start from the same array F, and a layer adds to it a weighted sum
of a few tokens and normalises it. So after any layer the image tokens of a prompt are

    Y = a ⊙ F + Uᵀ R + β                                                                      (1)

    F (N, C)  of the image: its embedding, centred and scaled by the γ of the norms so far
    a (N)     of the prompt: the product of the norms' 1/σ
    U (r, N)  of the prompt: the image's attention weights on the tokens, times the 1/σ since
    R (r, C)  of the prompt: what one unit of each weight adds, centred and scaled as F is
    β (C)     the last norm's bias.

A layer adds rows to U and R. The T weights of a head sum to one, so T − 1 of them say it all: with
values v and the output projection Wo, head h adds rows (v_t − v_T)·Wo_h for t < T with weights
A_ht, and one row with weight 1 takes β, the bias of Wo, and v_T·Wo: 8·6 + 1 = 49 rows for 7 tokens.

The norm centres F and R over the channels and needs for each image token

    C·σ² = a²‖F‖² + 2a·Σ_r U ⊙ (R Fᵀ) + Σ_r U ⊙ (R Rᵀ U),                                       (2)

where R Fᵀ is cheap as well, for R is v times matrices that all prompts share. A product with Y is a
product with F, done once per image, and one of rank r: Y W = a ⊙ (F W) + Uᵀ (R W) + β W. So Y is
never built, not even for the upscaling. All this is exact, and nothing is retrained.

Letters: B prompts, T tokens of a prompt (5 outputs and the sparse prompt), N image tokens,
C channels, h heads, d channels a head, l layers, M masks a prompt, S = 4 subpixels × channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Depth:
    """What the products between tokens and image need of the image's F after some layers."""

    keys: Float[Tensor, "h d N"]  # F Wk of the tokens' look at the image
    values: Float[Tensor, "h N d"]
    queries: Float[Tensor, "_ d N"]  # F Wq of the image's look at the tokens; empty at the end
    square: Float[Tensor, " N"]  # ‖F‖² before γ; here and below: of use from depth 1 on
    outs: tuple[Float[Tensor, "h d N"], ...]  # Wo Fᵀ of each layer so far, before γ
    biases: Float[Tensor, "l N"]  # (β + bias of Wo) Fᵀ of each layer so far, before γ


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image embedding, projected once for all prompts."""

    depths: tuple[Depth, ...]
    upscaled: Float[Tensor, "N S"]  # F through the first upscaling


@dataclass(slots=True)
class ImageTokens:
    """The image tokens of B prompts as the factors of (1); at depth 0 there is only F."""

    a: Float[Tensor, "B N"]
    u: Float[Tensor, "B r N"]
    r: Float[Tensor, "B r C"]
    room: Float[Tensor, "B rows N"]  # of which u is the part filled so far
    values: tuple[Float[Tensor, "B T hd"], ...] = ()  # v − v_T for t < T, then v_T, of each layer


@dataclass(frozen=True, slots=True)
class Decoded:
    """Predicted IoU of every mask, and what `FoldedDecoder.upscale` needs to draw them."""

    image: PreparedImage
    iou: Float[Tensor, "B M"]
    hyper: Float[Tensor, "B M E"]
    tokens: tuple[ImageTokens, ...]  # of each group of prompts


class CrossAttention:
    """An attention between tokens and image; its scores are symmetric in who asks whom.

    Args:
        attention: segment_anything's.
        tokens: the projection on the tokens' side.
        image: the projection on the image's side.
        position: the positional encoding of the image.
        beta: the bias of the image tokens' last norm.
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
        # Bias and β drop out of a softmax over the image, but not out of one over the tokens.
        self.position = F.linear(position + beta, image.weight, image.bias).T.reshape(h, d, -1)
        v, out = attention.v_proj, attention.out_proj
        self.v, self.v_bias = v.weight.view(h, d, -1), v.bias
        self.v_beta = F.linear(beta, v.weight, v.bias).view(h, 1, d)
        self.out, self.out_bias = out.weight.T.contiguous().view(h, d, -1), out.bias

    def ask(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "h BT d"]:
        """The tokens' side of the scores, heads first."""
        return self.split(F.linear(tokens, *self.tokens))

    def split(self, x: Float[Tensor, "B T hd"]) -> Float[Tensor, "h BT d"]:
        """Heads first, the rows of all prompts together."""
        return x.reshape(-1, self.heads, self.width).transpose(0, 1)

    def join(self, x: Float[Tensor, "h BT d"], prompts: int) -> Float[Tensor, "B T hd"]:
        """The inverse of `split`."""
        return x.transpose(0, 1).reshape(prompts, -1, self.heads * self.width)


class FoldedDecoder:
    """Prompts to predicted IoU and low-resolution logits, equal to SAM's decoder up to rounding.

    Args:
        prompt_encoder: segment_anything's, with its weights.
        mask_decoder: segment_anything's, with its weights; its dtype is the transformer's.
        upscale_dtype: of the upscaling, by default the transformer's. bfloat16 is a
            little faster where the processor multiplies it, and moves the logits by about 1 %.
        group: prompts whose image side is computed at a time. The tokens of a batch share one pass
            over the weights, so batches are best large; the image side of more than two prompts
            falls out of a processor's cache. On a GPU take the batch.
        rows: image tokens upscaled at a time, for the same reason.

    Build it anew after the weights were moved or changed.
    """

    @torch.no_grad()
    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        *,
        upscale_dtype: torch.dtype | None = None,
        group: int = 2,
        rows: int = 512,
    ) -> None:
        self.prompt_encoder: Any = prompt_encoder
        self.mask_decoder: Any = mask_decoder
        self.group, self.rows = group, rows
        transformer: Any = mask_decoder.transformer
        self.layers: list[Any] = list(transformer.layers)
        self.dtype = mask_decoder.iou_token.weight.dtype
        position = prompt_encoder.get_dense_pe().to(self.dtype).flatten(2)[0].T
        beta = torch.zeros_like(position[0])
        self.token_to_image: list[CrossAttention] = []
        self.image_to_token: list[CrossAttention] = []
        for layer in self.layers:
            look, back = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            self.token_to_image.append(
                CrossAttention(look, look.q_proj, look.k_proj, position, beta)
            )
            self.image_to_token.append(
                CrossAttention(back, back.k_proj, back.q_proj, position, beta)
            )
            # What the layer adds to every image token: its own bias and β of the norm before.
            self.image_to_token[-1].out_bias = back.out_proj.bias + beta
            beta = layer.norm4.bias
        look = transformer.final_attn_token_to_image
        self.token_to_image.append(CrossAttention(look, look.q_proj, look.k_proj, position, beta))
        self._fold_upscaling(mask_decoder.output_upscaling, beta, upscale_dtype or self.dtype)

    def _fold_upscaling(
        self, upscaling: Any, beta: Float[Tensor, " C"], dtype: torch.dtype
    ) -> None:
        """A 2×2 transposed convolution with stride 2 is one product, columns ordered (y, x, c)."""
        first, norm, _, second, _ = upscaling
        self.upscale_dtype = dtype
        # The decoder's LayerNorm2d, with the channels last.
        self.norm = nn.LayerNorm(len(norm.weight), norm.eps).to(norm.weight)
        self.norm.load_state_dict(norm.state_dict())
        self.first = first.weight.permute(0, 2, 3, 1).flatten(1)
        self.first_bias = first.bias.repeat(4) + beta @ self.first
        self.second = second.weight.permute(0, 2, 3, 1).flatten(1).to(dtype)
        self.second_bias = second.bias.repeat(4).to(dtype)
        # Where the logits of a 4×4 block, ordered (y, x, dy, dx, ey, ex), lie in the low-res mask.
        self.height, self.width = self.prompt_encoder.image_embedding_size
        order = torch.arange(16 * self.height * self.width, device=beta.device)
        order = order.view(self.height, self.width, 2, 2, 2, 2)
        self.order = order.permute(0, 2, 4, 1, 3, 5).flatten()

    @torch.no_grad()
    def prepare(self, image_embedding: Float[Tensor, "1 C y x"]) -> PreparedImage:
        """Project an image embedding once for all its prompts.

        A mask prompt changes F: for each, prepare ``image_embedding + dense − no_mask_embed``.
        """
        f = image_embedding.to(self.dtype).flatten(2)[0].T
        f = f + self.prompt_encoder.no_mask_embed.weight.to(self.dtype)
        square, biases, offsets = f[:, 0], f[:0], f[:, :0].T
        seen: tuple[Tensor, ...] = ()
        outs: list[Tensor] = []
        depths: list[Depth] = []
        for depth, look in enumerate(self.token_to_image):
            keys = torch.matmul(look.image, f.T)
            values = torch.matmul(f, look.v.mT)
            queries = keys[:0]
            if depth < len(self.layers):
                queries = torch.matmul(self.image_to_token[depth].image, f.T)
            if depth == 0:  # Y = F: what depends on the position alone belongs to the image
                keys = keys + look.position
                values = values + look.v_beta
                queries = queries + self.image_to_token[0].position
            depths.append(Depth(keys, values, queries, square, seen, offsets))
            if depth == len(self.layers):
                break
            # Through the layer's norm.
            gamma = self.layers[depth].norm4.weight
            added = self.image_to_token[depth]
            f = f - f.mean(1, keepdim=True)
            outs = [out - out.mean(2, keepdim=True) for out in (*outs, added.out)]
            biases = torch.cat([biases, added.out_bias[None]])
            biases = biases - biases.mean(1, keepdim=True)
            square = f.square().sum(1)
            seen = tuple(torch.matmul(out, f.T) for out in outs)
            offsets = biases @ f.T
            f, biases, outs = f * gamma, biases * gamma, [out * gamma for out in outs]
        return PreparedImage(tuple(depths), f @ self.first)

    @torch.no_grad()
    def decode(
        self,
        image: PreparedImage,
        *,
        points: tuple[Float[Tensor, "B P 2"], Tensor] | None = None,
        boxes: Float[Tensor, "B 4"] | None = None,
        multimask_output: bool = True,
    ) -> Decoded:
        """Run the transformer on a batch of prompts.

        Args:
            image: from `prepare`.
            points: coordinates in the model's input frame, and labels (B, P): 1 in, 0 out.
            boxes: xyxy in the model's input frame.
            multimask_output: three masks a prompt, or one.
        """
        decoder = self.mask_decoder
        sparse, _ = self.prompt_encoder(points=points, boxes=boxes, masks=None)
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        outputs = outputs.expand(len(sparse), -1, -1)
        tokens, states = self._transform(image, torch.cat([outputs, sparse.to(self.dtype)], dim=1))
        chosen = slice(1, None) if multimask_output else slice(0, 1)
        masks = range(decoder.num_mask_tokens)[chosen]
        hyper = [decoder.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in masks]
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, chosen]
        return Decoded(image, iou, torch.stack(hyper, dim=1), states)

    def _transform(
        self, image: PreparedImage, start: Float[Tensor, "B T C"]
    ) -> tuple[Float[Tensor, "B T C"], tuple[ImageTokens, ...]]:
        """The two-way transformer: the tokens as they are, the image tokens as factors."""
        states = tuple(self._start(image, part) for part in torch.split(start, self.group))

        def look(depth: int, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
            parts = torch.split(tokens + start, self.group)
            found = [self._look(depth, image, *pair) for pair in zip(states, parts, strict=True)]
            return tokens + torch.cat(found)

        tokens = start
        for depth, layer in enumerate(self.layers):
            if layer.skip_first_layer_pe:
                tokens = layer.self_attn(tokens, tokens, tokens)
            else:
                at = tokens + start
                tokens = tokens + layer.self_attn(at, at, tokens)
            tokens = layer.norm2(look(depth, layer.norm1(tokens)))
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            ats, values = torch.split(tokens + start, self.group), torch.split(tokens, self.group)
            for state, at, value in zip(states, ats, values, strict=True):
                self._answer(depth, image, state, at, value)
                self._normalise(image.depths[depth + 1], state, layer.norm4)
        tokens = look(len(self.layers), tokens)
        return self.mask_decoder.transformer.norm_final_attn(tokens), states

    def _start(self, image: PreparedImage, start: Float[Tensor, "B T C"]) -> ImageTokens:
        """The image tokens before the first layer, with room for the rows of all layers."""
        b, t, c = start.shape
        rows = self.token_to_image[0].heads * (t - 1) + 1
        room = start.new_empty(b, rows * len(self.layers), len(image.upscaled))
        return ImageTokens(torch.ones_like(room[:, 0]), room[:, :0], start.new_empty(b, 0, c), room)

    def _scores(
        self,
        attention: CrossAttention,
        image: Float[Tensor, "h d N"],
        state: ImageTokens,
        asked: Float[Tensor, "h BT d"],
    ) -> Float[Tensor, "B h T N"]:
        """asked·(Y W + position W)ᵀ of every head."""
        b, h = len(state.u), attention.heads

        def prompts_first(x: Float[Tensor, "h BT _"]) -> Float[Tensor, "B h T _"]:
            return x.view(h, b, x.shape[1] // b, x.shape[2]).transpose(0, 1)

        scores = prompts_first(torch.bmm(asked, image))
        if not state.values:
            return scores
        # Through the weights first, (asked Wᵀ) Rᵀ U: few rows all the way.
        rows = prompts_first(torch.bmm(asked, attention.image)).flatten(1, 2)
        low_rank = torch.bmm(torch.bmm(rows, state.r.mT), state.u).view(scores.shape)
        low_rank += prompts_first(torch.bmm(asked, attention.position))
        return low_rank.addcmul_(scores, state.a[:, None, None])

    def _look(
        self, depth: int, image: PreparedImage, state: ImageTokens, at: Float[Tensor, "B T C"]
    ) -> Float[Tensor, "B T C"]:
        """The tokens attend to the image."""
        attention, part = self.token_to_image[depth], image.depths[depth]
        b = len(at)
        weights = self._scores(attention, part.keys, state, attention.ask(at)).softmax(-1)

        def heads_first(x: Float[Tensor, "B h T _"]) -> Float[Tensor, "h BT _"]:
            return x.transpose(0, 1).flatten(1, 2)

        if not state.values:
            found = torch.bmm(heads_first(weights), part.values)
        else:
            # A (Y Wv) = (A ⊙ a) (F Wv) + ((A Uᵀ) R) Wv + β Wv; a row of A sums to one.
            rows = torch.bmm(torch.bmm(weights.flatten(1, 2), state.u.mT), state.r)
            rows = heads_first(rows.view(b, attention.heads, -1, rows.shape[2]))
            found = torch.baddbmm(attention.v_beta, rows, attention.v.mT)
            weights *= state.a[:, None, None]
            found.baddbmm_(heads_first(weights), part.values)
        out: Tensor = attention.out.flatten(0, 1)
        return torch.addmm(attention.out_bias, attention.join(found, b).flatten(0, 1), out).view(
            at.shape
        )

    def _answer(
        self,
        depth: int,
        image: PreparedImage,
        state: ImageTokens,
        at: Float[Tensor, "B T C"],
        tokens: Float[Tensor, "B T C"],
    ) -> None:
        """The image attends to the tokens: the layer's rows of U and R."""
        attention, queries = self.image_to_token[depth], image.depths[depth].queries
        b, t, c = tokens.shape
        n = state.room.shape[2]
        weights = self._scores(attention, queries, state, attention.ask(at)).softmax(2)
        before = state.u.shape[1]
        after = before + attention.heads * (t - 1) + 1
        state.room[:, before : after - 1].view(b, -1, t - 1, n).copy_(weights[:, :, :-1])
        state.room[:, after - 1] = 1
        v = F.linear(tokens, attention.v.flatten(0, 1), attention.v_bias)
        v = torch.cat([v[:, :-1] - v[:, -1:], v[:, -1:]], dim=1)
        rows = torch.bmm(attention.split(v[:, :-1]), attention.out)
        rows = rows.view(-1, b, t - 1, c).transpose(0, 1).flatten(1, 2)
        last = v[:, -1:] @ attention.out.flatten(0, 1) + attention.out_bias
        state.u = state.room[:, :after]
        state.r = torch.cat([state.r, rows, last], dim=1)
        state.values = (*state.values, v)

    def _normalise(self, part: Depth, state: ImageTokens, norm: Any) -> None:
        """The layer norm of Y, by (2)."""
        r = state.r - state.r.mean(2, keepdim=True)
        variance = torch.bmm(torch.bmm(r, r.mT), state.u).mul_(state.u).sum(1)
        cross = torch.zeros_like(state.a)
        rows = state.u.shape[1] // len(state.values)
        for i, (v, out) in enumerate(zip(state.values, part.outs, strict=True)):
            u = state.u[:, rows * i : rows * (i + 1)]
            b, n = len(u), u.shape[2]
            seen = torch.bmm(self.image_to_token[i].split(v[:, :-1]), out)
            weights = u[:, :-1].view(b, len(out), -1, n)
            seen = weights * seen.view(len(out), b, -1, n).transpose(0, 1)
            last = torch.addmm(part.biases[i], v[:, -1], out.flatten(0, 1))
            cross += seen.flatten(1, 2).sum(1).addcmul_(last, u[:, -1])
        variance += state.a * (2 * cross + state.a * part.square)
        s = torch.rsqrt(variance / r.shape[2] + norm.eps)
        state.a = state.a * s
        state.u *= s[:, None]
        state.r = r * norm.weight

    @torch.no_grad()
    def upscale(self, decoded: Decoded, keep: Bool[Tensor, "B M"]) -> Float[Tensor, "n y x"]:
        """Low-resolution logits of the kept masks, in the order of ``keep.nonzero()``."""
        prompts = keep.any(1).nonzero()[:, 0].tolist()
        return self._arrange([self._draw(decoded, i, keep[i]) for i in prompts])

    @torch.no_grad()
    def upscale_part(
        self,
        decoded: Decoded,
        keep: Bool[Tensor, "B M"],
        inside: Bool[Tensor, "B ty tx"],
        above: float = 0.0,
    ) -> Float[Tensor, "n y x"]:
        """`upscale`, but at some image tokens of each prompt only, and −32 elsewhere.

        Where a logit beyond ``above`` lies on the rim of the part, or the part is most of the
        image, the prompt's masks are drawn whole. So what can be lost are pieces of a mask that do
        not touch the part.
        """
        drawn = []
        for i in keep.any(1).nonzero()[:, 0].tolist():
            at = inside[i].flatten().nonzero()[:, 0]
            if not 0 < len(at) < 0.7 * self.height * self.width:
                drawn.append(self._draw(decoded, i, keep[i]))
                continue
            # On the rim one of the 3×3 tokens around is outside; beyond the image there is none.
            rim = F.max_pool2d((~inside[i])[None].float(), 3, 1, 1).flatten()[at] > 0
            part = self._draw(decoded, i, keep[i], at)
            if (part[:, rim] > above).any():
                drawn.append(self._draw(decoded, i, keep[i]))
                continue
            whole = part.new_full((len(part), self.height * self.width, 16), -32.0)
            whole[:, at] = part
            drawn.append(whole)
        return self._arrange(drawn)

    def near(self, boxes: Float[Tensor, "B 4"]) -> Bool[Tensor, "B ty tx"]:
        """The image tokens around boxes: half a box and two tokens on every side."""
        scale = self.prompt_encoder.input_image_size[0] / self.height
        low, high = boxes[:, :2] / scale, boxes[:, 2:] / scale
        slack = (high - low) / 2 + 2
        x, y = (torch.arange(n, device=boxes.device) + 0.5 for n in (self.width, self.height))
        (x0, y0), (x1, y1) = (low - slack).T[..., None], (high + slack).T[..., None]
        inside: Tensor = ((y > y0) & (y < y1))[:, :, None] & ((x > x0) & (x < x1))[:, None]
        return inside

    def _draw(
        self,
        decoded: Decoded,
        prompt: int,
        keep: Bool[Tensor, " M"],
        at: Int64[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "m n 16"]:
        """The 4×4 logits of each image token, of all or of those given, for a prompt's masks."""
        state, i = decoded.tokens[prompt // self.group], prompt % self.group
        factors = decoded.image.upscaled, state.a[i, :, None], state.u[i].T
        if at is not None:
            factors = factors[0][at], factors[1][at], factors[2][at]
        r = state.r[i] @ self.first
        hyper = decoded.hyper[prompt, keep].to(self.upscale_dtype)
        blocks = []
        for f, a, u in zip(*(torch.split(x, self.rows) for x in factors), strict=True):
            # Y W = a ⊙ (F W) + Uᵀ (R W) + bias
            y = torch.addcmul(self.first_bias, f, a).addmm_(u, r)  # (rows, S)
            y = self.norm(y.view(-1, self.norm.normalized_shape[0])).to(self.upscale_dtype)
            y = torch.addmm(self.second_bias, F.gelu(y), self.second)
            blocks.append(hyper @ F.gelu(y).view(-1, hyper.shape[1]).T)
        return torch.cat(blocks, dim=1).view(len(hyper), -1, 16)

    def _arrange(self, drawn: list[Float[Tensor, "_ N 16"]]) -> Float[Tensor, "n y x"]:
        """From blocks of 4×4 logits to masks."""
        if not drawn:
            return torch.empty(0, 4 * self.height, 4 * self.width).to(self.first)
        masks = torch.cat([blocks.flatten(1).index_select(1, self.order) for blocks in drawn])
        return masks.to(self.dtype).view(-1, 4 * self.height, 4 * self.width)
