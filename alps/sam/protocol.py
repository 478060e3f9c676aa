"""Interface of SAM models; it does not import their networks, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Image embedding."""

    features: Float[Tensor, "C h w"]  # stride 16 in the padded square input
    size: tuple[int, int]  # (H, W) of the image in pixels
    input_size: tuple[
        int, int
    ]  # (H, W) of the image after resizing its long side to the input's side

    @property
    def valid(self) -> tuple[int, int]:
        """Numbers of rows and columns of ``features`` without the padding."""
        stride = max(self.input_size) // self.features.shape[-1]
        return -(-self.input_size[0] // stride), -(-self.input_size[1] // stride)

    @property
    def low_res(self) -> int:
        """Side of the decoder's square logits, 4 × the side of ``features``."""
        return 4 * self.features.shape[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The n masks of all prompts whose predicted IoU exceeds the threshold.

    Only the logits are on the device of the model.
    """

    logits: Float[Tensor, "n h w"]  # stride 4 or 8 in the padded square input
    predicted_iou: Float[Tensor, " n"]
    prompt: Int64[Tensor, " n"]  # index of each mask's prompt
    mask: Int64[Tensor, " n"]  # index among the masks of its prompt


@runtime_checkable
class Segmenter(Protocol):
    """A SAM model, as mask sources and featurizers use it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings that affect masks and embeddings."""

    @property
    def points_per_batch(self) -> int:
        """Number of prompts per batch."""

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Return the embedding of an image; images embedded recently are not encoded again."""

    def prefetch(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Embed the next images, in batches if that is faster."""

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
        """Predict masks for N prompts, each of which is a point, a box, a mask or a combination.

        Args:
            embedding: embedding of the image.
            points: foreground points (x, y), in pixels of the image.
            boxes: boxes around the objects, xyxy in pixels of the image.
            masks: logits as in `Prediction`. They are slow, because each changes the embedding.
            multimask_output: True for three masks per prompt, False for one, None for all four, the
                single one first.
            pred_iou_thresh: threshold that the predicted IoU of a mask must exceed.
            fast: for points, compute the logits in bfloat16 if the hardware supports it; for boxes
                without points, compute the logits only around the box, which loses pieces of a mask
                far from it.
            coarse: decode at half the resolution, about four times as fast; ``fast`` is ignored.

        Raises:
            PromptError: a prompt lies outside the image.
        """
