"""SAM (the first version) as a `Segmenter`."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from alps.errors import Unavailable
from alps.pretrained.cache import load_weights, weights_sha256
from alps.pretrained.device import DeviceSetting
from alps.sam.build import build_sam, load_sam_state
from alps.sam.decoder import FoldedDecoder, PreparedImage
from alps.sam.limits import LIMITS
from alps.sam.mobile import MobileEncoder
from alps.sam.prompts import boxes_to_input, points_to_input
from alps.sam.protocol import Embedding, Prediction
from alps.sam.vit import fuse_attention
from alps.structures.settings import check_settings

log = logging.getLogger(__name__)

#: Prompts per batch on a GPU, independent of its memory, because rounding depends on the shapes of
#: products. At most 4.4 MiB per prompt exist at a time (tests/sam/test_memory.py counts the tensors
#: of the decoder on PyTorch's meta device), so 2.2 GiB per batch.
GPU_PROMPTS = 512
#: Sizes that batches are padded to: 32 for boxes, 128 for small grids of points, 512 for others.
GPU_BATCHES = (32, 128, GPU_PROMPTS)
#: Prompts whose masks a GPU upscales at a time.
GPU_UPSCALED = 64
#: Images per batch of each encoder on a GPU. The tensors take up to 0.17 GiB per image in MobileSAM
#: and, in float32, 0.9 to 1.2 GiB per image in a ViT (counted like the prompts).
GPU_IMAGES = {"mobile": 8, "vit_b": 4, "vit_l": 4, "vit_h": 4}


class SamSegmenter:
    """A SAM network on one device.

    Args:
        architecture: one of `alps.sam.limits.ARCHITECTURES`.
        checkpoint: path of the weights; None uses the official weights.
        device: a PyTorch device; "auto" is the first GPU, or the CPU if there is none, in each
            process that embeds images.
        dtype: "float32" or "bfloat16", in which the encoder multiplies. GPUs multiply bfloat16
            faster; the masks differ slightly.
        compile: compile encoder and decoder with torch.compile. This takes a minute at the start
            and is then faster on a GPU, but not on a CPU.
        keep: number of latest embeddings to cache, 4 MB each, so that masks and features of an
            image share them. With features=sam, images with more tiles are encoded twice.

    The weights are fetched and loaded when the first image is embedded. A pickled segmenter has
    neither weights nor embeddings: each process loads its own.

    Raises:
        ConfigError: ``dtype`` is unknown.
    """

    def __init__(
        self,
        architecture: str,
        *,
        checkpoint: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        compile: bool = False,  # noqa: A002 - the name in torch
        keep: int = 16,
    ) -> None:
        check_settings(LIMITS["alps.sam.load_segmenter"], {"dtype": dtype})
        self.architecture = architecture
        self.weights = checkpoint or architecture
        self.dtype = dtype
        self.compile = compile
        self.keep = keep
        self._device = DeviceSetting(device, key="sam.device")
        self._embeddings: OrderedDict[bytes, Embedding] = OrderedDict()
        self._prepared: tuple[Embedding, dict[int, PreparedImage]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings only."""
        names = ("architecture", "weights", "dtype", "compile", "keep", "_device")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._embeddings = OrderedDict()
        self._prepared = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """Architecture, hash of the weights, kind of device, and what affects rounding on it."""
        identity = {
            "sam.architecture": self.architecture,
            "sam.sha256": weights_sha256(self.weights),
            "sam.device": self._device.kind,
            "sam.compile": self.compile,
        }
        if self._device.kind != "cpu":
            identity["sam.points_per_batch"] = GPU_PROMPTS
        if self._device.kind != "cpu" or self.dtype != "float32":
            identity["sam.dtype"] = self.dtype
        return identity

    @cached_property
    def device(self) -> torch.device:
        """The device of this process.

        Raises:
            ConfigError: this process has no device of the kind of `identity`.
        """
        return self._device.choose()

    @property
    def points_per_batch(self) -> int:
        """Number of prompts per batch: 16 on a CPU, `GPU_PROMPTS` on a GPU."""
        return 16 if self.device.type == "cpu" else GPU_PROMPTS

    @cached_property
    def model(self) -> Sam:
        """The network, loaded on first use."""
        sam = build_sam(self.architecture)
        load_sam_state(sam, self.architecture, load_weights(self.weights))
        if isinstance(sam.image_encoder, MobileEncoder):
            sam.image_encoder.fold()
        elif self.device.type != "cpu":
            fuse_attention(sam.image_encoder)
        if self.compile:
            sam.image_encoder.compile()
        return sam.requires_grad_(False).to(self.device)

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Resize the long side to 1024, normalise, pad and encode; the last ``keep`` are cached."""
        return self._embed([image])[0]

    def load(self) -> None:
        """Load the network now, so that the first image takes no longer than the following ones."""
        _ = self.decoders  # building them loads the network

    def forget(self) -> None:
        """Drop all cached embeddings; the network stays loaded."""
        self._embeddings.clear()
        self._prepared = None

    def prefetch(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Embed the first ``keep // 2`` images; they stay cached until they are used.

        Not on a CPU, where batches are not faster and would delay the finishing of other images.
        """
        if self.device.type != "cpu":
            self._embed(images[: self.keep // 2])

    @torch.inference_mode()
    def _embed(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Embedding]:
        """Return the embeddings of images, from the cache where possible."""
        keys = [_digest(image) for image in images]
        new = {k: im for k, im in zip(keys, images, strict=True) if k not in self._embeddings}
        self._embeddings.update(zip(new, self._encode_all([*new.values()]), strict=True))
        for key in keys:
            self._embeddings.move_to_end(key)
        embeddings = [self._embeddings[key] for key in keys]
        while len(self._embeddings) > self.keep:
            self._embeddings.popitem(last=False)
        return embeddings

    @cached_property
    def _images_per_batch(self) -> int:
        """Number of images per batch."""
        # One image at a time on a CPU, where a batch is not faster and rounds differently.
        return 1 if self.device.type == "cpu" else GPU_IMAGES[self.architecture]

    def _encode_all(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Embedding]:
        """Encode images in batches, and in smaller ones after the memory of the GPU has run out."""
        encoded: list[Embedding] = []
        while rest := images[len(encoded) :]:
            batch = rest[: self._images_per_batch]
            try:
                encoded += self._encode(batch)
                continue
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise Unavailable(
                        f"the memory of {self.device} is too small for one image in SAM "
                        f"{self.architecture} ({str(error).partition('. ')[0]}); run fewer "
                        "processes per GPU (engine.processes, engine.actors), end other programs "
                        "on it, or choose a smaller model with sam="
                    ) from error
            # After the except block, because the traceback of the error holds tensors.
            self._images_per_batch = len(batch) // 2
            torch.cuda.empty_cache()
            log.warning(
                "the memory of %s ran out; SAM continues with %d images per batch",
                *(self.device, self._images_per_batch),
            )
        return encoded

    def _encode(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Embedding]:
        """Run the encoder on a batch of images."""
        resize = ResizeLongestSide(self.model.image_encoder.img_size)
        resized = [resize.apply_image(image) for image in images]
        pixels = [torch.as_tensor(r, device=self.device).permute(2, 0, 1)[None] for r in resized]
        inputs = torch.cat([self.model.preprocess(p) for p in pixels])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            batch = self.model.image_encoder(inputs).float()
        return [
            Embedding(features, (image.shape[0], image.shape[1]), (r.shape[0], r.shape[1]))
            for features, image, r in zip(batch, images, resized, strict=True)
        ]

    @torch.inference_mode()
    def predict(
        self,
        embedding: Embedding,
        *,
        points: Float32[np.ndarray, "N 2"] | None = None,
        boxes: Float32[np.ndarray, "N 4"] | None = None,
        masks: Float32[np.ndarray, "N h w"] | None = None,
        multimask_output: bool | None = True,
        pred_iou_thresh: float = -1.0,
        fast: bool = False,
        coarse: bool = False,
    ) -> Prediction:
        """Return the masks of all prompts, decoded as one batch with `FoldedDecoder`.

        Args:
            embedding: embedding of the image.
            points: foreground points (x, y), in pixels of the image.
            boxes: boxes around the objects, xyxy in pixels of the image.
            masks: logits as in `Prediction`. They are decoded one by one, without
                ``pred_iou_thresh``, ``fast`` and ``coarse``.
            multimask_output: True for three masks per prompt, False for one, None for all four, the
                single one first.
            pred_iou_thresh: threshold that the predicted IoU of a mask must exceed.
            fast: for points, upscale in bfloat16; for boxes without points on a CPU, upscale only
                around each box.
            coarse: decode at half the resolution; ``fast`` is ignored.

        Raises:
            PromptError: a prompt lies outside the image.
        """
        if masks is not None:
            return self._predict_each(embedding, points, boxes, masks, multimask_output)
        if not any(len(prompts) for prompts in (points, boxes) if prompts is not None):
            side = embedding.low_res
            indices = torch.zeros(0, dtype=torch.int64)
            return Prediction(
                embedding.features.new_zeros(0, side, side), torch.zeros(0), indices, indices
            )
        input_boxes = boxes_to_input(boxes, embedding)
        decoder = self.coarse_decoder if coarse else self.decoders[fast and points is not None]
        decoded = decoder.decode(
            self._prepare(embedding, decoder),
            points=points_to_input(points, embedding),
            boxes=input_boxes,
            multimask_output=multimask_output,
        )
        iou = decoded.iou.cpu()  # the only synchronisation
        keep = iou > pred_iou_thresh
        on_cpu = self.device.type == "cpu"  # a GPU upscales all prompts at once
        if fast and on_cpu and not coarse and points is None and input_boxes is not None:
            logits = decoder.upscale_part(decoded, keep, decoder.tokens_around(input_boxes))
        else:
            logits = decoder.upscale(decoded, keep)
        prompt, mask = keep.nonzero(as_tuple=True)
        return Prediction(logits, iou[keep], prompt, mask)

    def _predict_each(
        self,
        embedding: Embedding,
        points: Float32[np.ndarray, "N 2"] | None,
        boxes: Float32[np.ndarray, "N 4"] | None,
        masks: Float32[np.ndarray, "N h w"],
        multimask_output: bool | None,
    ) -> Prediction:
        """Decode mask prompts one by one, since each changes the embedding."""
        decoder, encoder = self.decoders[0], self.model.prompt_encoder
        input_points = points_to_input(points, embedding)
        input_boxes = boxes_to_input(boxes, embedding)
        logits, ious = [], []
        for i, mask in enumerate(torch.as_tensor(masks, device=self.device)):
            _, dense = encoder(points=None, boxes=None, masks=mask[None, None])
            plain = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
            decoded = decoder.decode(
                decoder.prepare(embedding.features[None] + dense - plain),
                points=input_points and (input_points[0][i, None], input_points[1][i, None]),
                boxes=None if input_boxes is None else input_boxes[i, None],
                multimask_output=multimask_output,
            )
            logits.append(decoder.upscale(decoded, torch.ones(decoded.iou.shape, dtype=torch.bool)))
            ious.append(decoded.iou[0])
        n = len(ious[0]) if ious else 1
        each = torch.arange(n * len(masks))
        side = embedding.low_res
        return Prediction(
            torch.cat([*logits, embedding.features.new_zeros(0, side, side)]),
            torch.cat([*ious, embedding.features.new_zeros(0)]).cpu(),
            *(each // n, each % n),
        )

    @cached_property
    def decoders(self) -> tuple[FoldedDecoder, FoldedDecoder]:
        """The float32 decoder and one that upscales in bfloat16; they share prepared images."""
        exact = self._build_decoder()
        if not has_bfloat16(self.device):
            return exact, exact
        return exact, self._build_decoder(upscale_dtype=torch.bfloat16)

    @cached_property
    def coarse_decoder(self) -> FoldedDecoder:
        """The decoder at half the resolution; on a CPU, its groups are four times as large."""
        return self._build_decoder(pool=2)

    def _build_decoder(
        self, pool: int = 1, upscale_dtype: torch.dtype | None = None
    ) -> FoldedDecoder:
        """Return a decoder with groups for the cache of a CPU or the memory of a GPU."""
        sizes = {"group": 2 * pool**2, "upscale_group": 1, "rows": 512}
        batches: tuple[int, ...] = ()
        if self.device.type != "cpu":
            sizes = {"group": GPU_PROMPTS, "upscale_group": GPU_UPSCALED, "rows": 4096}
            batches = GPU_BATCHES
        return FoldedDecoder(
            self.model.prompt_encoder,
            self.model.mask_decoder,
            pool=pool,
            upscale_dtype=upscale_dtype,
            batches=batches,
            compile=self.compile,
            **sizes,
        )

    def _prepare(self, embedding: Embedding, decoder: FoldedDecoder) -> PreparedImage:
        """Return the prepared image of an embedding; the latest one is cached."""
        prepared = self._prepared
        if prepared is None or prepared[0] is not embedding:
            prepared = self._prepared = (embedding, {})
        images = prepared[1]
        if decoder.pool not in images:
            images[decoder.pool] = decoder.prepare(embedding.features[None])
        return images[decoder.pool]


def _digest(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Return a hash of an image's shape and pixels."""
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    digest.update(str(image.shape).encode())
    return digest.digest()


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
