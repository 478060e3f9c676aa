"""SAM's image embedding, averaged inside each mask (ALPS, arXiv 2406.10855, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional as F

from alps.features.limits import LIMITS
from alps.features.pool import Axis, FeatureMap, MaskMeans, axis
from alps.sam.protocol import Embedding, Segmenter
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class SamFeatures:
    """Mean of the image embedding over a mask's pixels.

    If the tiles are those of the mask source, the segmenter has cached their embeddings, so the
    encoder runs once per tile.

    Args:
        segmenter: SAM.
        normalize: scale every row to length 1.
        tile_size: side of the tiles in pixels, preferably that of the mask source.
        tile_overlap: overlap of neighbouring tiles in pixels, preferably that of the mask source.
    """

    segmenter: Segmenter
    normalize: bool = False
    tile_size: int = 1024
    tile_overlap: int = 128

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.features.SamFeatures"], self)

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings and those of the segmenter; ``version`` counts changes of the algorithm."""
        tiles = {"tile_size": self.tile_size, "tile_overlap": self.tile_overlap}
        settings = {"normalize": self.normalize, **tiles}
        return {"features": "sam", "version": 1, **settings, **self.segmenter.identity}

    @property
    def channels(self) -> int:
        """Number of channels of the embedding, 256 for every SAM model."""
        return 256

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask; the masks belong to the image, and none is empty."""
        means = MaskMeans(masks, [self.channels])
        for tile in sample.tiles(self.tile_size, self.tile_overlap):
            embedding = self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1])
            h, w = embedding.valid  # without the padding
            cells = (
                embedding.features[:, :h, :w].float().permute(1, 2, 0).contiguous().cpu().numpy()
            )
            means.add(tile, [FeatureMap(cells, *_interpolation(embedding))])
        (rows,) = means.means()
        return F.normalize(torch.from_numpy(rows)).numpy() if self.normalize else rows


def _interpolation(embedding: Embedding) -> tuple[Axis, Axis]:
    """Return the interpolation from unpadded cells to pixels, along y and x."""
    cell = (
        max(embedding.input_size) // embedding.features.shape[-1]
    )  # side of a cell in pixels of the input
    rows, columns = (
        axis(cells, pixels, resized / pixels / cell)
        for pixels, cells, resized in zip(
            embedding.size, embedding.valid, embedding.input_size, strict=True
        )
    )
    return rows, columns
