"""Images and a SAM that cost next to nothing, so that what lies around them can be measured."""

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
    """Rectangles of noisy colours, drawn when they are read; the same for the same number.

    Args:
        n: how many images.
    """

    n: int
    name: str = "drawn"
    root: str = "drawn"

    def records(self) -> list[ImageRecord]:
        """Named by their numbers."""
        return [ImageRecord(f"{i:07d}", f"{i:07d}.png") for i in range(self.n)]

    def read(self, record: ImageRecord) -> Sample:
        """Draw one."""
        rng = np.random.default_rng(int(record.image_id))
        image = np.tile(rng.choice(GROUND), (SIDE, SIDE, 1))
        for _ in range(12):
            (y, x), (h, w) = rng.integers(0, SIDE, 2), rng.integers(SIDE // 8, SIDE // 2, 2)
            image[y : y + h, x : x + w] = rng.choice(GROUND)
        return Sample(record.image_id, image + rng.integers(0, 16, image.shape, np.uint8))


class FakeSegmenter:
    """The mask of a point is what has the colour of the point; see `alps.sam.protocol.Segmenter`.

    The embedding is the image at the resolution of the logits.
    """

    points_per_batch = 16
    identity: Mapping[str, Any] = {"sam.architecture": "fake"}

    def embed(self, image: UInt8[np.ndarray, "H W 3"]) -> Embedding:
        """Every fourth pixel's colour."""
        colors = torch.from_numpy(image[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] // 16)
        features = F.pixel_unshuffle(colors.permute(2, 0, 1).float(), 4)
        size = (image.shape[0], image.shape[1])
        return Embedding(features, size, size)

    def prefetch(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Nothing to gain."""

    def predict(
        self,
        embedding: Embedding,
        *,
        points: Float32[np.ndarray, "N 2"],
        **_: object,
    ) -> Prediction:
        """One mask per point, all of them equally good."""
        colors = F.pixel_shuffle(embedding.features, 4)
        x, y = torch.from_numpy(points).div(STRIDE).long().T
        same = (colors[:, None] == colors[:, y, x, None, None]).all(dim=0)
        each = torch.arange(len(points))
        return Prediction(same * 16.0 - 8.0, torch.full(each.shape, 0.95), each, 0 * each)
