"""Images and a SAM that cost almost nothing, so that the remaining costs can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn import functional as F

from alps.sam.protocol import Embedding, Prediction
from alps.structures.records import ImageRecord, Sample

SIDE = 128  # pixels of an image
STRIDE = 4  # of the logits, as SAM's
#: Colours of 60 kinds of ground, each number a multiple of 16 that noise below 16 leaves legible.
GROUND = np.random.default_rng(0).integers(0, 16, (60, 3), np.uint8) * 16


@dataclass(frozen=True, slots=True)
class DrawnImages:
    """Rectangles of noisy colours, drawn when they are read; they depend only on their number.

    Args:
        n: number of images.
    """

    n: int
    name: str = "drawn"
    root: str = "drawn"

    def records(self) -> list[ImageRecord]:
        """Return the images, named by their numbers."""
        return [ImageRecord(f"{i:07d}", f"{i:07d}.png") for i in range(self.n)]

    def read(self, record: ImageRecord) -> Sample:
        """Draw one image."""
        rng = np.random.default_rng(int(record.image_id))
        image = np.tile(rng.choice(GROUND), (SIDE, SIDE, 1))
        for _ in range(12):
            (y, x), (h, w) = rng.integers(0, SIDE, 2), rng.integers(SIDE // 8, SIDE // 2, 2)
            image[y : y + h, x : x + w] = rng.choice(GROUND)
        return Sample(record.image_id, image + rng.integers(0, 16, image.shape, np.uint8))


class FakeSegmenter:
    """A segmenter whose mask for a point are the pixels with the colour of the point.

    It implements `alps.sam.protocol.Segmenter`. The embedding is the image at the resolution of the
    logits.
    """

    points_per_batch = 16
    identity: Mapping[str, Any] = {"sam.architecture": "fake"}

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Return the colour of every fourth pixel."""
        colors = torch.from_numpy(image[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] // 16)
        features = F.pixel_unshuffle(colors.permute(2, 0, 1).float(), 4)
        size = (image.shape[0], image.shape[1])
        return Embedding(features, size, size)

    def prefetch(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Do nothing."""

    def predict(
        self,
        embedding: Embedding,
        *,
        points: Float32[np.ndarray, "N 2"],
        **_: object,
    ) -> Prediction:
        """Return one mask per point, all with the same score."""
        colors = F.pixel_shuffle(embedding.features, 4)
        x, y = torch.from_numpy(points).div(STRIDE).long().T
        same = (colors[:, None] == colors[:, y, x, None, None]).all(dim=0)
        each = torch.arange(len(points))
        return Prediction(same * 16.0 - 8.0, torch.full(each.shape, 0.95), each, 0 * each)
