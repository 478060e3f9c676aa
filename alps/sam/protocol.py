"""What the rest of ALPS knows of a SAM, without its packages, which take seconds to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor


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

    @property
    def low_res(self) -> int:
        """Side of the square logits that the decoder gives: four per feature."""
        return 4 * self.features.shape[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Masks that pass the predicted-IoU threshold, n of all prompts' masks."""

    logits: Float[Tensor, "n h w"]  # low resolution, of the padded square input, stride 4 or 8
    predicted_iou: Float[Tensor, " n"]
    prompt: Int64[Tensor, " n"]  # which prompt each came from
    mask: Int64[Tensor, " n"]  # and which of the prompt's masks it is


@runtime_checkable
class Segmenter(Protocol):
    """What mask sources and features need of a SAM."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings that change masks and embeddings."""

    @property
    def points_per_batch(self) -> int:
        """How many prompts to predict at once."""

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Run the encoder, unless this very image was embedded a moment ago."""

    def prefetch(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Embed images that are asked for next, several per batch where that is faster."""

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
        """Masks for N prompts: a point (x y), a box (xyxy), a mask or several of them each.

        Args:
            embedding: of the image.
            points: foreground points, in pixels of the image.
            boxes: around the objects, in pixels of the image.
            masks: logits at low resolution, of the padded square input, as `Prediction` has them.
                Slow: each changes the embedding.
            multimask_output: three masks a prompt, or one; None: the one, then the three.
            pred_iou_thresh: masks that are not predicted better are left out.
            fast: points: logits (not the IoU) in bfloat16 where the hardware has it. Boxes: logits
                around them only; pieces of a mask far outside its box are lost.
            coarse: all at half the resolution, about four times as fast; ``fast`` says nothing.

        Raises:
            PromptError: a prompt lies outside the image.
        """
