"""SAM's image embedding, averaged inside each mask (ALPS, arXiv 2406.10855, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from alps.features.limits import LIMITS
from alps.sam.protocol import Embedding, Segmenter
from alps.sam.upsample import bilinear
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes
from alps.structures.tiles import Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class SamFeatures:
    """Mean of the image embedding over a mask's pixels.

    If the tiles are those of the mask source, the segmenter has cached the embeddings of the latest
    ones, so the encoder runs once per tile in images of up to 16 tiles.

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
        sums, pixels = torch.zeros(len(masks), self.channels), torch.zeros(len(masks))
        for tile in sample.tiles(self.tile_size, self.tile_overlap):
            embedding = self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1])
            _add_sums(sums, pixels, embedding, masks, tile)
        rows = sums / pixels[:, None]
        return (F.normalize(rows) if self.normalize else rows).numpy()


def _add_sums(
    sums: Float32[Tensor, "N C"],
    pixels: Float32[Tensor, " N"],
    embedding: Embedding,
    masks: Masks,
    tile: Tile,
) -> None:
    """Add the sums of the interpolated embedding over each mask in a tile, and numbers of pixels.

    This is the sum of `alps.features.pool`, mask by mask in float32: `recipe=alps_paper` keeps the
    bits of its first version.
    """
    h, w = embedding.valid  # without the padding
    cells = embedding.features[:, :h, :w].float().cpu().permute(1, 2, 0).contiguous()
    along_y, along_x = _interpolation(embedding)
    (first_y, stop_y), (first_x, stop_x) = _touched(along_y), _touched(along_x)
    for i, (counts, xyxy) in enumerate(zip(masks.counts, masks.xyxy, strict=True)):
        window = Tile(*(int(v) for v in xyxy)).intersect(tile)
        if window is None:
            continue
        mask = torch.from_numpy(rle.decode_window(counts, masks.size[0], window))
        (y0, y1), (x0, x1) = (
            (window.y0 - tile.y0, window.y1 - tile.y0),
            (window.x0 - tile.x0, window.x1 - tile.x0),
        )
        ys, xs = slice(first_y[y0], stop_y[y1 - 1]), slice(first_x[x0], stop_x[x1 - 1])
        weights = along_y[y0:y1, ys].T @ (mask.to(along_x.dtype) @ along_x[x0:x1, xs])
        sums[i] += weights.flatten() @ cells[ys, xs].flatten(0, 1)
        pixels[i] += mask.sum()


def _interpolation(embedding: Embedding) -> tuple[Float32[Tensor, "H h"], Float32[Tensor, "W w"]]:
    """Return the interpolation matrices from unpadded cells to pixels, along y and x."""
    cell = (
        max(embedding.input_size) // embedding.features.shape[-1]
    )  # side of a cell in pixels of the input
    along_y, along_x = (
        bilinear(cells, pixels, resized / pixels / cell)
        for pixels, cells, resized in zip(
            embedding.size, embedding.valid, embedding.input_size, strict=True
        )
    )
    return along_y, along_x


def _touched(along: Float32[Tensor, "P c"]) -> tuple[list[int], list[int]]:
    """Return the range (first, stop) of the cells that each pixel is interpolated from."""
    touched = (along != 0).int()
    return touched.argmax(1).tolist(), (along.shape[1] - touched.flip(1).argmax(1)).tolist()
