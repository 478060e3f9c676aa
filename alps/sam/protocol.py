"""Interface of a SAM, without the packages of its networks, which take seconds to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Embedding of one image by the encoder."""

    features: Float[Tensor, "C h w"]  # of the padded square input, stride 16
    size: tuple[int, int]  # (H, W) of the image in pixels
    input_size: tuple[int, int]  # (H, W) after its long side was resized to that of the input

    @property
    def valid(self) -> tuple[int, int]:
        """Numbers of rows and columns of ``features`` that show the image; the rest is padding."""
        stride = max(self.input_size) // self.features.shape[-1]
        return -(-self.input_size[0] // stride), -(-self.input_size[1] // stride)

    @property
    def low_res(self) -> int:
        """Side of the square logits of the decoder, four per feature."""
        return 4 * self.features.shape[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The n masks, of all prompts together, that pass the threshold of predicted IoU."""

    logits: Float[Tensor, "n h w"]  # low resolution, of the padded square input, stride 4 or 8
    predicted_iou: Float[Tensor, " n"]
    prompt: Int64[Tensor, " n"]  # index of each mask's prompt
    mask: Int64[Tensor, " n"]  # index among the masks of its prompt


@runtime_checkable
class Segmenter(Protocol):
    """A SAM as mask sources and features use it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings that affect masks and embeddings."""

    @property
    def points_per_batch(self) -> int:
        """Number of prompts to predict at once."""

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Return the embedding of an image; images embedded recently are not encoded again."""

    def prefetch(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Embed the images that are needed next, several per batch where that is faster."""

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
        """Predict masks for N prompts, each of a point, a box, a mask or several of these.

        Args:
            embedding: of the image.
            points: foreground points (x, y), in pixels of the image.
            boxes: xyxy around the objects, in pixels of the image.
            masks: low-resolution logits of the padded square input, as in `Prediction`. Slow,
                because each changes the embedding.
            multimask_output: if True three masks per prompt, if False one; if None the one, then
                the three.
            pred_iou_thresh: masks whose predicted IoU does not exceed it are dropped.
            fast: for points, compute logits (not the IoU) in bfloat16 where the hardware supports
                it; for boxes alone, compute logits around them only, which loses pieces of a mask
                far outside its box.
            coarse: decode at half the resolution, about four times as fast; ``fast`` is ignored.

        Raises:
            PromptError: a prompt lies outside the image.
        """
