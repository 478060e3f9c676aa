"""SAM's own image embedding, averaged inside each mask (ALPS, arXiv 2406.10855, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from alps import rle
from alps.features.pool import bilinear_matrix, pool_sums
from alps.geometry import Tile, cut_tiles
from alps.sam.segmenter import Embedding, Segmenter
from alps.types import Masks, Sample

#: Masks held as dense windows at once; 1 MB each in a tile of 1024².
CHUNK = 32


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
        sums = np.zeros((len(masks), self.channels), dtype=np.float32)
        pixels = np.zeros(len(masks), dtype=np.float32)
        for tile in cut_tiles(sample.size, self.tile_size, self.tile_overlap):
            embedding = self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1])
            inside = _reaching_into(masks, tile)
            for i in range(0, len(inside), CHUNK):
                rows = inside[i : i + CHUNK]
                part_sums, part_pixels = _pool_tile(embedding, masks, rows, tile)
                sums[rows] += part_sums
                pixels[rows] += part_pixels
        return sums / pixels[:, None]


def _reaching_into(masks: Masks, tile: Tile) -> np.ndarray:
    x0, y0, x1, y1 = masks.xyxy.T
    return np.flatnonzero((x0 < tile.x1) & (x1 > tile.x0) & (y0 < tile.y1) & (y1 > tile.y0))


def _pool_tile(
    embedding: Embedding, masks: Masks, rows: np.ndarray, tile: Tile
) -> tuple[np.ndarray, np.ndarray]:
    dense = np.stack([rle.decode_window(masks.counts[i], masks.size[0], tile) for i in rows])
    h, w = embedding.valid  # without the padding of images that are not square
    features = embedding.features[:, :h, :w].float().cpu().numpy()
    cell = max(embedding.input_size) // embedding.features.shape[-1]  # input pixels
    along_y, along_x = (
        bilinear_matrix(pixels, cells, cell * pixels / resized)
        for pixels, cells, resized in zip(embedding.size, (h, w), embedding.input_size, strict=True)
    )
    return pool_sums(features, dense, along_y, along_x), dense.sum(axis=(1, 2), dtype=np.float32)
