"""The segmenter: an image becomes an embedding once, prompts become masks."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional as F

from alps.sam.build import build_sam, load_sam_state
from alps.weights import load_weights, weights_sha256


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What the encoder says of one image."""

    features: Float[Tensor, "C h w"]  # of the padded square input, stride 16
    size: tuple[int, int]  # (H, W) of the image in pixels
    input_size: tuple[int, int]  # (H, W) after its long side was resized to the input's

    @property
    def valid(self) -> tuple[int, int]:
        """Rows and columns of ``features`` that see the image; the rest is padding."""
        stride = max(self.input_size) // self.features.shape[-1]
        return -(-self.input_size[0] // stride), -(-self.input_size[1] // stride)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Masks that pass the predicted-IoU threshold, n of all prompts' masks."""

    logits: Float[Tensor, "n h w"]  # low resolution, of the padded square input, stride 4
    predicted_iou: Float[Tensor, " n"]
    prompt: Int64[Tensor, " n"]  # which prompt each came from


@runtime_checkable
class Segmenter(Protocol):
    """What mask sources and features need of a SAM."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings that change masks and embeddings."""

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Run the encoder, unless this very image was embedded a moment ago."""

    def predict(
        self,
        embedding: Embedding,
        *,
        points: Float32[np.ndarray, "N 2"] | None = None,
        boxes: Float32[np.ndarray, "N 4"] | None = None,
        multimask_output: bool = True,
        pred_iou_thresh: float = 0.0,
    ) -> Prediction:
        """Masks for N prompts, one point (x y) or box (xyxy) each, in pixels of the image."""


class SamSegmenter:
    """A SAM-1 network on one device.

    Args:
        architecture: one of `alps.sam.build.ARCHITECTURES`.
        checkpoint: path of other weights of the same network; None takes the official ones.
        device: "auto" is the first GPU, else the CPU.
        keep: embeddings kept, newest first, so that masks and features of an image share them;
            4 MB each.

    The weights are fetched and loaded at the first image, not before.
    """

    def __init__(
        self,
        architecture: str,
        *,
        checkpoint: str | None = None,
        device: str = "auto",
        keep: int = 64,
    ) -> None:
        self.architecture = architecture
        self.weights = checkpoint or architecture
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.keep = keep
        self._embeddings: OrderedDict[bytes, Embedding] = OrderedDict()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Network, weights and kind of device."""
        return {
            "sam.architecture": self.architecture,
            "sam.sha256": weights_sha256(self.weights),
            "sam.device": self.device.type,
        }

    @cached_property
    def model(self) -> Sam:
        """The network, loaded on first use."""
        sam = build_sam(self.architecture)
        load_sam_state(sam, self.architecture, load_weights(self.weights))
        return sam.requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Resize the long side to 1024, normalise, pad, encode; remembers the last ``keep``."""
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
        digest.update(str(image.shape).encode())
        key = digest.digest()
        if key not in self._embeddings:
            self._embeddings[key] = self._encode(image)
            while len(self._embeddings) > self.keep:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]

    def _encode(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        resized = ResizeLongestSide(self.model.image_encoder.img_size).apply_image(image)
        pixels = torch.as_tensor(resized, device=self.device).permute(2, 0, 1)[None]
        features = self.model.image_encoder(self.model.preprocess(pixels))[0]
        height, width = image.shape[:2]
        return Embedding(features, (height, width), (resized.shape[0], resized.shape[1]))

    @torch.inference_mode()
    def predict(
        self,
        embedding: Embedding,
        *,
        points: Float32[np.ndarray, "N 2"] | None = None,
        boxes: Float32[np.ndarray, "N 4"] | None = None,
        multimask_output: bool = True,
        pred_iou_thresh: float = 0.0,
    ) -> Prediction:
        """One forward pass of the official prompt encoder and mask decoder over all prompts."""
        height, width = embedding.size
        # x and y have a scale each: the resized sides are rounded to whole pixels.
        scale = torch.tensor(
            [embedding.input_size[1] / width, embedding.input_size[0] / height], device=self.device
        )
        sparse_points = sparse_boxes = None
        if points is not None:
            xy = torch.as_tensor(points, device=self.device) * scale
            labels = torch.ones(len(points), 1, dtype=torch.int, device=self.device)
            sparse_points = (xy[:, None], labels)
        if boxes is not None:
            sparse_boxes = torch.as_tensor(boxes, device=self.device) * scale.repeat(2)
        encoder, decoder = self.model.prompt_encoder, self.model.mask_decoder
        sparse, dense = encoder(points=sparse_points, boxes=sparse_boxes, masks=None)
        logits, iou = decoder(
            image_embeddings=embedding.features[None],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )
        prompt, mask = torch.nonzero(iou > pred_iou_thresh, as_tuple=True)
        return Prediction(logits[prompt, mask], iou[prompt, mask], prompt)


def upsample(logits: Float[Tensor, "n h w"], embedding: Embedding) -> Float[Tensor, "n H W"]:
    """Low-resolution logits at the image's size: as in SAM, up to the input, crop, then resize."""
    side = max(embedding.input_size)
    height, width = embedding.input_size
    full = F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    full = full[..., :height, :width]
    return F.interpolate(full, embedding.size, mode="bilinear", align_corners=False)[:, 0]


@lru_cache(maxsize=1)
def load_segmenter(
    architecture: str, checkpoint: str | None = None, device: str = "auto"
) -> SamSegmenter:
    """The one segmenter of this process: mask source and features share it and its embeddings."""
    return SamSegmenter(architecture, checkpoint=checkpoint, device=device)
