"""Masks for the bare ground between masks: superpixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Int32, UInt8
from scipy import ndimage
from skimage.segmentation import watershed

from alps.errors import ConfigError
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.numbers import is_number
from alps.structures.records import Sample

#: Side of the blocks that are cut one at a time, in pixels: memory does not grow with the image.
BLOCK = 1024
#: A pixel of distance from a superpixel's seed costs as much as this gradient, in CIELAB units, at
#: a side of 16 pixels: enough to keep superpixels round where there is no edge to follow.
COMPACTNESS = 1.0
#: Pieces below this share of a superpixel are slivers along masks and stay bare.
SLIVER = 1 / 8


def cover_ground(masks: Masks, sample: Sample, side: int) -> Masks:
    """The masks of an image, then superpixels where there are none.

    SAM finds things; grass, gravel and shade between them are in no mask, so they would get no
    class. A compact watershed (Neubert & Protzel, ICPR 2014) cuts them along their edges. Scores
    and points of these masks are NaN, which tells them from the others.

    Args:
        masks: of the image.
        sample: the image.
        side: of a superpixel, about, in pixels; 0 leaves the ground bare. Pixels that are no data
            stay uncovered.
    """
    if side == 0:
        return masks
    bare = ~rle.decode(rle.union(masks.counts, masks.size), masks.size)
    if sample.valid is not None:
        bare &= sample.valid
    height, width = sample.size
    counts = [
        rle.encode_window(piece, x0 + x, y0 + y, sample.size)
        for y0, y1 in pairwise(_edges(height))
        for x0, x1 in pairwise(_edges(width))
        for piece, x, y in _cut(sample.image[y0:y1, x0:x1], bare[y0:y1, x0:x1], side)
    ]
    return Masks.cat([masks, Masks.from_counts(counts, sample.size)])


def check_side(side: int) -> None:
    """Raise `ConfigError` where a side is below 4 pixels, and not 0."""
    if side != 0 and not is_number(side, "[4, inf)", whole=True):
        raise ConfigError(f"masks.ground={side}: expected 4 px or more, or 0 for no superpixels")


def _edges(length: int) -> list[int]:
    """Where blocks begin and end: of equal size, for a narrow last one would hold no seed."""
    n = -(-length // BLOCK)
    return [length * i // n for i in range(n + 1)]


def _cut(
    image: UInt8[np.ndarray, "H W 3"], bare: Bool[np.ndarray, "H W"], side: int
) -> Iterator[tuple[Bool[np.ndarray, "h w"], int, int]]:
    """The superpixels of a block: each inside its box, and the box's corner (x, y)."""
    if not bare.any():
        return
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    slope = np.stack([cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)])
    gradient = np.sqrt(np.square(slope).sum(axis=(0, 3)))
    compactness = COMPACTNESS * 16 / side
    pieces = watershed(  # type: ignore[no-untyped-call]  # scikit-image has no annotations here
        gradient, _seeds(bare, side), mask=bare, compactness=compactness
    )
    for i, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is not None:
            piece = pieces[box] == i
            if piece.sum() >= SLIVER * side**2:
                yield piece, box[1].start, box[0].start


def _seeds(bare: Bool[np.ndarray, "H W"], side: int) -> Int32[np.ndarray, "H W"]:
    """Numbers on a grid over the bare ground; a part of it that the grid misses is one seed."""
    grid = np.zeros(bare.shape, bool)
    grid[side // 2 :: side, side // 2 :: side] = True
    grid &= bare
    seeds = np.zeros(bare.shape, np.int32)
    n = np.count_nonzero(grid)
    seeds[grid] = np.arange(1, n + 1)
    parts, part = cv2.connectedComponents(bare.astype(np.uint8), connectivity=4)
    missed = np.ones(parts, bool)
    missed[part[grid | ~bare]] = False
    rest = missed[part]
    seeds[rest] = part[rest] + n
    return seeds
