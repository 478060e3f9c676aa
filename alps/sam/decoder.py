"""A mask decoder that gives SAM's results, up to rounding, in a fraction of the time.

The transformer of `alps.sam.two_way` never builds the image tokens of a prompt, only their factors.
This decoder applies the first upscaling to the factors too, and only for the requested masks.

Letters as in `alps.sam.two_way`: F image tokens before any prompt, B prompts, N image tokens,
C channels, M masks per prompt, S = 4 subpixels × channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn

from alps.sam.two_way import Depth, FoldedTransformer, ImageTokens


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image embedding, projected once for all prompts."""

    depths: tuple[Depth, ...]
    upscaled: Float[Tensor, "N S"]  # F after the first upscaling


@dataclass(frozen=True, slots=True)
class Decoded:
    """Predicted IoU of every mask, and the inputs of `FoldedDecoder.upscale`."""

    image: PreparedImage
    iou: Float[Tensor, "B M"]
    hyper: Float[Tensor, "B M E"]
    tokens: tuple[ImageTokens, ...]  # one entry per group of prompts


class FoldedDecoder:
    """Decodes prompts to predicted IoU and low-resolution logits, equal to SAM's up to rounding.

    Args:
        prompt_encoder: segment_anything's prompt encoder, with its weights.
        mask_decoder: segment_anything's mask decoder, with its weights, whose dtype the
            transformer uses.
        upscale_dtype: dtype of the upscaling, by default that of the weights. bfloat16 is slightly
            faster where the processor supports it, and changes the logits by about 1 %.
        pool: number of image tokens to average along each side. With 2 the decoder is coarse: a
            quarter of the tokens and of the time, logits of half the resolution, and masks whose
            IoU with the exact ones is 0.95 on average, although no weights were trained for it.
        group: number of prompts whose factors are computed at a time. The prompts of a batch share
            one pass over the weights, so large batches are fastest, but a CPU's cache holds the
            factors of only two prompts. On a GPU, use the batch size.
        upscale_group: number of prompts whose masks are upscaled at a time: one on a CPU, as many
            as fit into memory on a GPU.
        rows: number of image tokens upscaled at a time; a CPU's cache limits it too.
        batches: numbers of prompts, ascending, that batches are padded to, so that a GPU sees few
            shapes. It then needs few compiled graphs, and rounding depends on the padded size only.
        compile: compile the transformer with torch.compile, on a GPU with CUDA graphs.

    The decoder rearranges copies of the weights: build a new decoder after the weights are moved or
    changed.
    """

    @torch.no_grad()
    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        *,
        upscale_dtype: torch.dtype | None = None,
        pool: int = 1,
        group: int = 2,
        upscale_group: int = 1,
        rows: int = 512,
        batches: tuple[int, ...] = (),
        compile: bool = False,  # noqa: A002 - the name in torch
    ) -> None:
        self.prompt_encoder: Any = prompt_encoder
        self.mask_decoder: Any = mask_decoder
        self.pool, self.group, self.upscale_group, self.rows = pool, group, upscale_group, rows
        self.batches = batches
        self.dtype = mask_decoder.iou_token.weight.dtype
        position = self._tokens(prompt_encoder.get_dense_pe())
        self.transformer = FoldedTransformer(mask_decoder.transformer, position, group)
        self.transform: Any = self.transformer
        if compile:
            mode = "reduce-overhead" if position.device.type == "cuda" else None
            self.transform = torch.compile(self.transformer, mode=mode)
        self._fold_upscaling(
            mask_decoder.output_upscaling, self.transformer.beta, upscale_dtype or self.dtype
        )

    def _fold_upscaling(
        self, upscaling: Any, beta: Float[Tensor, " C"], dtype: torch.dtype
    ) -> None:
        """Turn the 2×2 transposed convolutions of stride 2 into matrices with columns (y, x, c)."""
        first, norm, _, second, _ = upscaling
        self.upscale_dtype = dtype
        # The decoder's LayerNorm2d, for channels-last arrays.
        self.norm = nn.LayerNorm(len(norm.weight), norm.eps).to(norm.weight)
        self.norm.load_state_dict(norm.state_dict())
        self.first = first.weight.permute(0, 2, 3, 1).flatten(1)
        self.first_bias = first.bias.repeat(4) + beta @ self.first
        self.second = second.weight.permute(0, 2, 3, 1).flatten(1).to(dtype)
        self.second_bias = second.bias.repeat(4).to(dtype)
        # Index of each logit of a low-res mask in the 4×4 blocks, ordered (y, x, dy, dx, ey, ex).
        self.height, self.width = (n // self.pool for n in self.prompt_encoder.image_embedding_size)
        order = torch.arange(16 * self.height * self.width, device=beta.device)
        order = order.view(self.height, self.width, 2, 2, 2, 2)
        self.order = order.permute(0, 2, 4, 1, 3, 5).flatten()

    def _tokens(self, features: Float[Tensor, "1 C y x"]) -> Float[Tensor, "N C"]:
        """Pool features and flatten them to image tokens."""
        tokens: Tensor = F.avg_pool2d(features.to(self.dtype), self.pool).flatten(2)[0].T
        return tokens

    @torch.no_grad()
    def prepare(self, image_embedding: Float[Tensor, "1 C y x"]) -> PreparedImage:
        """Return the projections of an image embedding, which all its prompts share.

        A mask prompt changes F: for each one, prepare
        ``image_embedding + dense − no_mask_embed``.
        """
        f = self._tokens(image_embedding)
        f = f + self.prompt_encoder.no_mask_embed.weight.to(self.dtype)
        depths, f = self.transformer.prepare(f)
        return PreparedImage(depths, f @ self.first)

    @torch.no_grad()
    def decode(
        self,
        image: PreparedImage,
        *,
        points: tuple[Float[Tensor, "B P 2"], Tensor] | None = None,
        boxes: Float[Tensor, "B 4"] | None = None,
        multimask_output: bool | None = True,
    ) -> Decoded:
        """Run the transformer on a batch of prompts.

        Args:
            image: image from `prepare`.
            points: coordinates (x, y) in pixels of the model's input, and labels (B, P): 1 is
                foreground, 0 background.
            boxes: xyxy in pixels of the model's input.
            multimask_output: True for three masks per prompt, False for one, None for all four, the
                single one first.

        Returns:
            The predicted IoUs, and the inputs of `upscale`.
        """
        decoder = self.mask_decoder
        sparse = [] if points is None else [self._embed_points(*points, pad=boxes is None)]
        if boxes is not None:
            sparse.append(self.prompt_encoder._embed_boxes(boxes))
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        outputs = outputs.expand(len(sparse[0]) if sparse else 1, -1, -1)  # or one mask prompt
        start = torch.cat([outputs, *(part.to(self.dtype) for part in sparse)], dim=1)
        n = len(start)
        padding = next((size - n for size in self.batches if size >= n), 0)
        tokens, states = self.transform(image.depths, F.pad(start, (0, 0, 0, 0, 0, padding)))
        tokens = tokens[:n]
        chosen = {True: slice(1, None), False: slice(0, 1), None: slice(None)}[multimask_output]
        masks = range(decoder.num_mask_tokens)[chosen]
        hyper = [decoder.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in masks]
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, chosen]
        return Decoded(image, iou, torch.stack(hyper, dim=1), states)

    def _embed_points(
        self, points: Float[Tensor, "B P 2"], labels: Tensor, *, pad: bool
    ) -> Float[Tensor, "B _ C"]:
        """Embed points as SAM's prompt encoder, without boolean indices, for which a GPU waits."""
        encoder = self.prompt_encoder
        if pad:  # a further point with the label −1, which stands for "no box"
            points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
        position = encoder.pe_layer.forward_with_coords(points + 0.5, encoder.input_image_size)
        kinds = [
            encoder.not_a_point_embed,
            encoder.point_embeddings[0],
            encoder.point_embeddings[1],
        ]
        table = torch.cat([kind.weight for kind in kinds])
        embedded: Tensor = position.where((labels >= 0)[..., None], 0) + table[labels.long() + 1]
        return embedded

    @torch.no_grad()
    def upscale(self, decoded: Decoded, keep: Bool[Tensor, "B M"]) -> Float[Tensor, "n y x"]:
        """Return low-resolution logits of the kept masks, in the order of ``keep.nonzero()``.

        Args:
            decoded: prompts from `decode`.
            keep: masks to upscale; on the CPU, because it determines the shapes.
        """
        blocks = []
        for first in range(0, len(keep), self.group):
            stop = min(first + self.group, len(keep))
            for start in range(first, stop, self.upscale_group):
                part = keep[start : min(start + self.upscale_group, stop)]
                if part.any():
                    blocks.append(self._upscale_prompts(decoded, start, part))
        return self._arrange(blocks)

    @torch.no_grad()
    def upscale_part(
        self,
        decoded: Decoded,
        keep: Bool[Tensor, "B M"],
        inside: Bool[Tensor, "B ty tx"],
        above: float = 0.0,
    ) -> Float[Tensor, "n y x"]:
        """Upscale as `upscale`, but only at some image tokens of each prompt.

        If a logit at the border of these tokens exceeds ``above``, or if they are most of the
        image, the prompt's masks are upscaled completely. So only pieces of a mask that are
        disconnected from these tokens are lost.

        Args:
            decoded: prompts from `decode`.
            keep: masks to upscale; on the CPU.
            inside: image tokens to upscale, for each prompt.
            above: threshold of the logits at the border.

        Returns:
            The logits of the kept masks, −32 at the other image tokens.
        """
        blocks_of_prompts = []
        for i in keep.any(1).nonzero()[:, 0].tolist():
            at = inside[i].flatten().nonzero()[:, 0]
            if not 0 < len(at) < 0.7 * self.height * self.width:
                blocks_of_prompts.append(self._upscale_prompts(decoded, i, keep[i, None]))
                continue
            # A token is at the border if one of its 3×3 neighbours is outside; the image's edge is
            # no border.
            border = F.max_pool2d((~inside[i])[None].float(), 3, 1, 1).flatten()[at] > 0
            part = self._upscale_prompts(decoded, i, keep[i, None], at)
            if (part[:, border] > above).any():
                blocks_of_prompts.append(self._upscale_prompts(decoded, i, keep[i, None]))
                continue
            complete = part.new_full((len(part), self.height * self.width, 16), -32.0)
            complete[:, at] = part
            blocks_of_prompts.append(complete)
        return self._arrange(blocks_of_prompts)

    def tokens_around(self, boxes: Float[Tensor, "B 4"]) -> Bool[Tensor, "B ty tx"]:
        """Return the image tokens in boxes enlarged by half their size and two tokens per side."""
        scale = self.prompt_encoder.input_image_size[0] / self.height
        low, high = boxes[:, :2] / scale, boxes[:, 2:] / scale
        margin = (high - low) / 2 + 2
        x, y = (torch.arange(n, device=boxes.device) + 0.5 for n in (self.width, self.height))
        (x0, y0), (x1, y1) = (low - margin).T[..., None], (high + margin).T[..., None]
        inside: Tensor = ((y > y0) & (y < y1))[:, :, None] & ((x > x0) & (x < x1))[:, None]
        return inside

    def _upscale_prompts(
        self,
        decoded: Decoded,
        start: int,
        keep: Bool[Tensor, "b M"],
        at: Int64[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "m n 16"]:
        """Return 4×4 logits of image tokens in the kept masks of some prompts of one group.

        Args:
            decoded: prompts from `decode`.
            start: index of the first prompt.
            keep: masks of the b prompts from ``start`` on; on the CPU.
            at: indices of the image tokens; None: all.
        """
        state = decoded.tokens[start // self.group]
        first = start % self.group
        prompts = slice(first, first + len(keep))
        factors = decoded.image.upscaled, state.a[prompts, :, None], state.u[prompts].mT
        if at is not None:
            factors = factors[0][at], factors[1][:, at], factors[2][:, at]
        r = state.r[prompts] @ self.first
        # Prompts with fewer kept masks than others are padded with masks that are dropped again.
        n_kept = keep.sum(1)
        masks = keep.int().argsort(dim=1, descending=True, stable=True)[:, : int(n_kept.max())]
        kept = (torch.arange(masks.shape[1]) < n_kept[:, None]).flatten()
        rows = torch.arange(start, start + len(keep))[:, None]
        device = decoded.hyper.device
        hyper = decoded.hyper[rows.to(device), masks.to(device)].to(self.upscale_dtype)
        blocks = []
        for f, a, u in zip(*(torch.split(x, self.rows, dim=-2) for x in factors), strict=True):
            # Y W = a ⊙ (F W) + Uᵀ (R W) + bias
            y = torch.addcmul(self.first_bias, f, a).baddbmm_(u, r)  # (b, rows, S)
            y = self.norm(y.view(-1, self.norm.normalized_shape[0])).to(self.upscale_dtype)
            y = torch.addmm(self.second_bias, F.gelu(y), self.second)
            blocks.append(torch.bmm(hyper, F.gelu(y).view(len(keep), -1, hyper.shape[2]).mT))
        logits = torch.cat(blocks, dim=2).view(len(kept), -1, 16)
        return logits if kept.all() else logits[kept.nonzero()[:, 0].to(device)]

    def _arrange(self, blocks_of_prompts: list[Float[Tensor, "_ N 16"]]) -> Float[Tensor, "n y x"]:
        """Rearrange blocks of 4×4 logits into masks."""
        if not blocks_of_prompts:
            return torch.empty(0, 4 * self.height, 4 * self.width).to(self.first)
        masks = torch.cat(
            [blocks.flatten(1).index_select(1, self.order) for blocks in blocks_of_prompts]
        )
        return masks.to(self.dtype).view(-1, 4 * self.height, 4 * self.width)
