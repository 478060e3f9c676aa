"""Superpixels as masks of uncovered pixels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8
from scipy import ndimage
from skimage.segmentation import watershed

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.tiles import Tile

#: Side in pixels of the blocks that are segmented one at a time, to limit the memory.
BLOCK = 1024
#: Number of superpixels around a block that are segmented with it, so that blocks leave no seams.
MARGIN = 4
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

    Seeds lie on a grid of the image, or of the raster if the image is a window of one, so
    overlapping windows have the same superpixels where SAM covers the same pixels.

    Args:
        masks: masks of the image.
        sample: the image.
        side: approximate side of a superpixel, in pixels; 0: no superpixels.

    Returns:
        The masks, then the superpixels. Slivers and no-data pixels belong to no superpixel.
    """
    if side == 0:
        return masks
    if sample.valid is not None and not sample.valid.any():
        return masks
    uncovered = ~rle.decode(rle.union(masks.counts, masks.size), masks.size)
    if sample.valid is not None:
        uncovered &= sample.valid
    parts: dict[int, list[bytes]] = {}
    for block in _blocks(sample.size):
        for seed, counts in _segment(sample, uncovered, block, side):
            parts.setdefault(seed, []).append(counts)
    superpixels = Masks.from_counts(
        [rle.union(p, sample.size) if len(p) > 1 else p[0] for p in parts.values()], sample.size
    )
    return Masks.cat([masks, superpixels[superpixels.area >= SLIVER * side**2]])


def _blocks(size: tuple[int, int]) -> list[Tile]:
    """Return blocks of nearly equal size that cover an image of ``size`` (H, W) once."""
    edges = []
    for length in size:
        n = -(-length // BLOCK)  # a narrow last block could contain no seed
        edges.append([length * i // n for i in range(n + 1)])
    rows, columns = (pairwise(axis) for axis in edges)
    return [Tile(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(rows, columns)]


def _segment(
    sample: Sample, uncovered: Bool[np.ndarray, "H W"], block: Tile, side: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of superpixels in a block as COCO RLE, with the pixel index of their seeds.

    The block is segmented with a margin. A superpixel that crosses the edge of the block has the
    same seed in the next block.
    """
    height, width = sample.size
    margin = MARGIN * side
    context = Tile(
        max(block.x0 - margin, 0),
        max(block.y0 - margin, 0),
        min(block.x1 + margin, width),
        min(block.y1 + margin, height),
    )
    window = np.s_[context.y0 : context.y1, context.x0 : context.x1]
    where = uncovered[window]
    if not where.any():
        return
    offset = sample.window or Tile(0, 0, width, height)
    origin = offset.y0 + context.y0, offset.x0 + context.x0
    seeds, at = _seeds(where, side, origin)
    labels = watershed(  # type: ignore[no-untyped-call]  # scikit-image has no annotations here
        _gradient(sample.image[window], where),
        seeds,
        mask=where,
        compactness=COMPACTNESS * 16 / side,
    )
    rows, columns = np.divmod(at, where.shape[1])
    positions = (rows + context.y0) * width + columns + context.x0
    x0, y0 = block.x0 - context.x0, block.y0 - context.y0
    labels = labels[y0 : y0 + block.size[0], x0 : x0 + block.size[1]]
    for i, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            x, y = block.x0 + box[1].start, block.y0 + box[0].start
            counts = rle.encode_window(labels[box] == i, x, y, sample.size)
            yield int(positions[i - 1]), counts


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


def _seeds(
    uncovered: Bool[np.ndarray, "H W"], side: int, origin: tuple[int, int]
) -> tuple[Int32[np.ndarray, "H W"], Int64[np.ndarray, " S"]]:
    """Return seeds on a grid over uncovered pixels, and one per region without a grid point.

    Args:
        uncovered: the pixels to segment.
        side: distance between grid points, px.
        origin: row and column of the first pixel, counted from the origin of the grid.

    Returns:
        The number of the seed of each pixel, 0 without; and the index of the first pixel of each
        seed.
    """
    seeds = np.zeros(uncovered.shape, np.int32)
    row, column = ((side // 2 - start) % side for start in origin)
    grid = np.s_[row::side, column::side]
    n = int(np.count_nonzero(uncovered[grid]))
    seeds[grid][uncovered[grid]] = np.arange(1, n + 1)
    first = [*np.flatnonzero(seeds)]
    _, region, stats, _ = cv2.connectedComponentsWithStats(
        uncovered.astype(np.uint8), connectivity=4
    )
    missed = np.ones(len(stats), bool)
    missed[0] = False  # covered pixels
    missed[region[grid]] = False
    for number, i in enumerate(np.flatnonzero(missed).tolist(), start=n + 1):
        x, y, width, height = stats[i, :4]
        box = np.s_[y : y + height, x : x + width]
        pixels = region[box] == i
        seeds[box][pixels] = number
        first.append(y * uncovered.shape[1] + x + int(pixels[0].argmax()))
    return seeds, np.array(first, np.int64)
