"""Superpixels as masks of uncovered pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from scipy import ndimage
from skimage.segmentation import watershed

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample

#: Side in pixels of the blocks that are segmented one at a time, to limit the memory.
BLOCK = 1024
#: Side in pixels of the parts of a block whose gradient is computed if a pixel is uncovered.
PART = 128
#: Gradient in CIELAB units that equals one pixel of distance from the seed, for superpixels
#: with a side of 16 pixels; it keeps them round where the image has no edges.
COMPACTNESS = 1.0
#: Matrix that adds the three channels of an image.
SUM = np.ones((1, 3), np.float32)
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
        The masks, then the superpixels. Slivers and no-data pixels belong to no superpixel.
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
    pieces = watershed(  # type: ignore[no-untyped-call]  # scikit-image has no annotations here
        _gradient(image, uncovered),
        _seeds(uncovered, side),
        mask=uncovered,
        compactness=COMPACTNESS * 16 / side,
    )
    for i, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is not None:
            piece = pieces[box] == i
            if piece.sum() >= SLIVER * side**2:
                yield piece, box[1].start, box[0].start


def _gradient(
    image: UInt8[np.ndarray, "H W 3"], where: Bool[np.ndarray, "H W"]
) -> Float32[np.ndarray, "H W"]:
    """Return the gradient in CIELAB units; it may be 0 outside of ``where``."""
    gradient = np.zeros(where.shape, np.float32)
    for top in range(0, len(where), PART):
        for left in range(0, where.shape[1], PART):
            part = np.s_[top : top + PART, left : left + PART]
            if where[part].any():
                # With one more pixel on each side, so that parts leave no seams.
                y, x = max(top - 1, 0), max(left - 1, 0)
                pixels = image[y : top + PART + 1, x : left + PART + 1]
                lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
                slopes = cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)
                squares = [cv2.transform(slope * slope, SUM) for slope in slopes]
                size = np.sqrt(squares[0] + squares[1])
                gradient[part] = size[top - y :, left - x :][:PART, :PART]
    return gradient


def _seeds(uncovered: Bool[np.ndarray, "H W"], side: int) -> Int32[np.ndarray, "H W"]:
    """Return seeds on a grid over uncovered pixels, and one per region without a grid point."""
    seeds = np.zeros(uncovered.shape, np.int32)
    grid = np.s_[side // 2 :: side, side // 2 :: side]
    n = np.count_nonzero(uncovered[grid])
    seeds[grid][uncovered[grid]] = np.arange(1, n + 1)
    _, region, stats, _ = cv2.connectedComponentsWithStats(
        uncovered.astype(np.uint8), connectivity=4
    )
    missed = np.ones(len(stats), bool)
    missed[0] = False  # covered pixels
    missed[region[grid]] = False
    for i in np.flatnonzero(missed):
        x, y, width, height = stats[i, :4]
        box = np.s_[y : y + height, x : x + width]
        seeds[box][region[box] == i] = n + i
    return seeds
