"""SAM's own image embedding, averaged inside each mask (ALPS, arXiv 2406.10855, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from alps import rle
from alps.features.pool import interpolation_weights
from alps.geometry import Tile, cut_tiles
from alps.sam.segmenter import Embedding, Segmenter
from alps.sam.upsample import bilinear
from alps.types import Masks, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SamFeatures:
    """The mean of the image embedding over a mask's pixels.

    The tiles are the mask source's, so the segmenter still has their embeddings and the encoder
    runs once per tile. A mask that reaches over several tiles is averaged over all its pixels
    (those in an overlap count once per tile).

    Args:
        segmenter: the SAM whose embedding is taken.
        tile_size: as of the mask source.
        tile_overlap: as of the mask source.
    """

    segmenter: Segmenter
    tile_size: int = 1024
    tile_overlap: int = 128

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings, and the segmenter's."""
        tiles = {"tile_size": self.tile_size, "tile_overlap": self.tile_overlap}
        return {"features": "sam", **tiles, **self.segmenter.identity}

    @property
    def channels(self) -> int:
        """256 in every SAM."""
        return 256

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """One row per mask; masks come from one image and are not empty."""
        sums = torch.zeros(len(masks), self.channels)
        pixels = torch.zeros(len(masks))
        for tile in cut_tiles(sample.size, self.tile_size, self.tile_overlap):
            embedding = self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1])
            weights = [torch.zeros(embedding.valid) for _ in range(len(masks))]
            along_y, along_x = _interpolation(embedding)
            for i in range(len(masks)):
                window = _bounds(masks.xyxy[i]).intersect(tile)
                if window is not None:
                    mask = rle.decode_window(masks.counts[i], masks.size[0], window)
                    weights[i] = interpolation_weights(
                        torch.from_numpy(mask),
                        along_y[window.y0 - tile.y0 : window.y1 - tile.y0],
                        along_x[window.x0 - tile.x0 : window.x1 - tile.x0],
                    )
                    pixels[i] += int(mask.sum())
            if weights:
                h, w = embedding.valid  # without the padding of images that are not square
                features = embedding.features[:, :h, :w].float().cpu().flatten(1)
                sums += torch.stack(weights).flatten(1) @ features.T
        return (sums / pixels[:, None]).numpy()


def _bounds(xyxy: Float32[np.ndarray, " 4"]) -> Tile:
    x0, y0, x1, y1 = (int(v) for v in xyxy)
    return Tile(x0, y0, x1, y1)


def _interpolation(embedding: Embedding) -> tuple[Tensor, Tensor]:
    """Matrices from the cells that see the image to its pixels, along y and x."""
    cell = max(embedding.input_size) // embedding.features.shape[-1]  # input pixels
    along_y, along_x = (
        bilinear(cells, pixels, resized / pixels / cell)
        for pixels, cells, resized in zip(
            embedding.size, embedding.valid, embedding.input_size, strict=True
        )
    )
    return along_y, along_x
