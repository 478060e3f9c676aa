"""Superpixels as masks of uncovered pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Int32, UInt8
from scipy import ndimage
from skimage.segmentation import watershed

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample

#: Side in pixels of the blocks that are segmented one at a time, to limit the memory.
BLOCK = 1024
#: Gradient in CIELAB units that equals one pixel of distance from the seed, for superpixels
#: with a side of 16 pixels; it keeps them round where the image has no edges.
COMPACTNESS = 1.0
#: Smallest area of a superpixel, as a fraction of side²; smaller ones are slivers between masks.
SLIVER = 1 / 8


def add_superpixels(masks: Masks, sample: Sample, side: int) -> Masks:
    """Append superpixels of the uncovered pixels to the masks of an image.

    SAM segments objects; the grass, gravel and shade between them would get no class. A compact
    watershed (Neubert & Protzel, ICPR 2014) splits these pixels along edges of the image. The
    scores and points of superpixels are NaN, which distinguishes them from SAM's masks.

    Args:
        masks: masks of the image.
        sample: the image.
        side: approximate side of a superpixel, in pixels; 0: no superpixels.

    Returns:
        The masks, then the superpixels. Pixels without data stay uncovered.
    """
    if side == 0:
        return masks
    uncovered = ~rle.decode(rle.union(masks.counts, masks.size), masks.size)
    if sample.valid is not None:
        uncovered &= sample.valid
    height, width = sample.size
    counts = [
        rle.encode_window(piece, x0 + x, y0 + y, sample.size)
        for y0, y1 in pairwise(_edges(height))
        for x0, x1 in pairwise(_edges(width))
        for piece, x, y in _cut(sample.image[y0:y1, x0:x1], uncovered[y0:y1, x0:x1], side)
    ]
    return Masks.cat([masks, Masks.from_counts(counts, sample.size)])


def _edges(length: int) -> list[int]:
    """Return the edges of equal blocks; a narrow last block could contain no seed."""
    n = -(-length // BLOCK)
    return [length * i // n for i in range(n + 1)]


def _cut(
    image: UInt8[np.ndarray, "H W 3"], uncovered: Bool[np.ndarray, "H W"], side: int
) -> Iterator[tuple[Bool[np.ndarray, "h w"], int, int]]:
    """Yield the superpixels of a block: the pixels in the bounding box, and its corner (x, y)."""
    if not uncovered.any():
        return
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    slope = np.stack([cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)])
    gradient = np.sqrt(np.square(slope).sum(axis=(0, 3)))
    compactness = COMPACTNESS * 16 / side
    pieces = watershed(  # type: ignore[no-untyped-call]  # scikit-image has no annotations here
        gradient, _seeds(uncovered, side), mask=uncovered, compactness=compactness
    )
    for i, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is not None:
            piece = pieces[box] == i
            if piece.sum() >= SLIVER * side**2:
                yield piece, box[1].start, box[0].start


def _seeds(uncovered: Bool[np.ndarray, "H W"], side: int) -> Int32[np.ndarray, "H W"]:
    """Return seeds on a grid over uncovered pixels, and one per region without a grid point."""
    grid = np.zeros(uncovered.shape, bool)
    grid[side // 2 :: side, side // 2 :: side] = True
    grid &= uncovered
    seeds = np.zeros(uncovered.shape, np.int32)
    n = np.count_nonzero(grid)
    seeds[grid] = np.arange(1, n + 1)
    parts, part = cv2.connectedComponents(uncovered.astype(np.uint8), connectivity=4)
    missed = np.ones(parts, bool)
    missed[part[grid | ~uncovered]] = False
    rest = missed[part]
    seeds[rest] = part[rest] + n
    return seeds
