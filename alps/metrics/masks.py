"""Masks without classes against ground truth: how much of it they could give, at best."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Integer
from scipy import ndimage

from alps.metrics.clustering import Contingency, contingency
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import covered, ignore_index_for, paint

#: COCO's: 0.50, 0.55, …, 0.95.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """What the masks of some images amount to; tallies of images add up to that of the set.

    Its scores are NaN where nothing can be said.
    """

    images: int
    masks: int
    pixels: int
    covered: int  # pixels
    regions: int
    recalled_100: Int64[np.ndarray, " 10"]  # regions, per IoU threshold
    recalled_1000: Int64[np.ndarray, " 10"]
    scored: int  # pixels that have a class
    achieved: int  # of these
    leaked: int
    oracle: Contingency  # each mask painted with its best class
    boundary_overlap: Int64[np.ndarray, "2 K"]  # of the oracle's index map
    boundary_matches: Int64[np.ndarray, "2 2"]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    @property
    def coverage(self) -> float:
        """Share of the pixels with data inside any mask, with a class or without."""
        return _ratio(self.covered, self.pixels)

    @property
    def masks_per_image(self) -> float:
        """Their mean number."""
        return _ratio(self.masks, self.images)

    @property
    def ar_100(self) -> float:
        """Average recall (COCO's, mean over `IOU_THRESHOLDS`) of an image's best 100 masks."""
        return _ratio(self.recalled_100.mean(), self.regions)

    @property
    def ar_1000(self) -> float:
        """Average recall of an image's best 1000 masks."""
        return _ratio(self.recalled_1000.mean(), self.regions)

    @property
    def achievable_accuracy(self) -> float:
        """See `count_overlaps`."""
        return _ratio(self.achieved, self.scored)

    @property
    def undersegmentation_error(self) -> float:
        """See `count_overlaps`."""
        return _ratio(self.leaked, self.scored)

    @property
    def boundary_iou(self) -> float:
        """Mean over the classes; see `count_boundary_overlap`."""
        shared, either = self.boundary_overlap
        return float((shared / either)[either > 0].mean()) if either.any() else math.nan

    @property
    def boundary_f1(self) -> float:
        """Harmonic mean of precision and recall; see `count_boundary_matches`."""
        (precise, said), (recalled, true) = self.boundary_matches.tolist()
        both = precise * true + recalled * said
        return 2 * precise * recalled / both if both else _ratio(0, said + true)


def tally(
    masks: Masks,
    target: Integer[np.ndarray, "H W"],
    num_classes: int,
    ignore_index: int,
    *,
    min_area: int,
    pixels: int | None = None,
) -> Tally:
    """Compare the masks of one image with its index map.

    Args:
        masks: N of them, of the size of ``target``.
        target: classes in [0, num_classes), or ``ignore_index``.
        num_classes: K.
        ignore_index: marks pixels without a class.
        min_area: pixels; regions below it need not be recalled.
        pixels: those that are data, of which coverage is a share; None: all.
    """
    parts = find_regions(target, ignore_index)
    regions = region_masks(parts, min_area)
    no_mask, no_class = ignore_index_for(len(masks)), ignore_index_for(num_classes)
    segments = paint(masks, np.arange(len(masks)), no_mask)
    achieved, leaked = count_overlaps(segments, parts, no_mask)
    painted = paint(masks, oracle(masks, target, num_classes, ignore_index), no_class)
    return Tally(
        images=1,
        masks=len(masks),
        pixels=target.size if pixels is None else pixels,
        covered=covered(masks),
        regions=len(regions),
        recalled_100=count_recalled(masks, regions, 100),
        recalled_1000=count_recalled(masks, regions, 1000),
        scored=int((parts >= 0).sum()),
        achieved=achieved,
        leaked=leaked,
        oracle=contingency(
            *(painted, target, num_classes, num_classes),
            unlabelled=no_class,
            ignore_index=ignore_index,
        ),
        boundary_overlap=count_boundary_overlap(painted, target, num_classes, ignore_index),
        boundary_matches=count_boundary_matches(painted, target, ignore_index),
    )


def find_regions(target: Integer[np.ndarray, "H W"], ignore_index: int) -> Int32[np.ndarray, "H W"]:
    """Number the connected parts of each class (8 neighbours) from 0; -1 where there is none."""
    parts = np.full(target.shape, -1, dtype=np.int32)
    n = 0
    for c in np.unique(target[target != ignore_index]):
        found, of_class = cv2.connectedComponents((target == c).astype(np.uint8))
        inside = of_class > 0
        parts[inside] = of_class[inside] + (n - 1)
        n += found - 1
    return parts


def region_masks(parts: Int32[np.ndarray, "H W"], min_area: int) -> Masks:
    """The numbered parts of an image as masks, without those below ``min_area`` pixels."""
    counts = []
    for i, window in enumerate(ndimage.find_objects(parts + 1)):
        inside = parts[window] == i
        if inside.sum() >= min_area:
            counts.append(rle.encode_window(inside, window[1].start, window[0].start, parts.shape))
    return Masks.from_counts(counts, parts.shape)


def count_recalled(masks: Masks, regions: Masks, limit: int) -> Int64[np.ndarray, " 10"]:
    """How many regions a mask finds, at each of `IOU_THRESHOLDS`.

    Over the number of regions and averaged over the thresholds this is COCO's AR@limit without
    classes. Regions must not overlap: then no mask can be more than half of two of them, and COCO's
    one-to-one matching comes down to the best mask per region.

    Args:
        masks: the first ``limit`` of them by ``predicted_iou`` count; where that is unknown, as
            they come.
        regions: ground truth, be it `region_masks` or instances.
        limit: masks per image.
    """
    best = masks[np.argsort(-masks.predicted_iou, kind="stable")[:limit]]
    iou = rle.iou(best.counts, regions.counts, masks.size).max(axis=0, initial=0)
    recalled: np.ndarray = (iou >= IOU_THRESHOLDS[:, None]).sum(axis=1)
    return recalled


def oracle(
    masks: Masks, target: Integer[np.ndarray, "H W"], num_classes: int, ignore_index: int
) -> Int64[np.ndarray, " N"]:
    """The class most frequent inside each mask; -1 where none of its pixels has one."""
    by_column = np.where(target == ignore_index, np.int64(num_classes), target).T
    best = np.full(len(masks), -1, dtype=np.int64)
    for i, counts in enumerate(masks.counts):
        x, y, window = rle.window(counts, masks.size[0])
        inside = by_column[x : x + window.shape[0], y : y + window.shape[1]][window]
        classes = np.bincount(inside, minlength=num_classes + 1)[:num_classes]
        if classes.any():
            best[i] = classes.argmax()
    return best


def count_overlaps(
    segments: Integer[np.ndarray, "H W"], regions: Int32[np.ndarray, "H W"], unlabelled: int
) -> tuple[int, int]:
    """How well the regions can be put together from segments; a partition each.

    Over the number of pixels that lie in a region the first count is the achievable segmentation
    accuracy (Liu et al., CVPR 2011) and the second the under-segmentation error (Neubert & Protzel,
    Forum Bildverarbeitung 2012). Both know of partitions only, so here a pixel without a segment
    counts as wrong in both.

    Args:
        segments: the mask on top, as `paint` draws it when each mask is a class of its own.
        regions: see `find_regions`.
        unlabelled: what ``segments`` holds where there is no mask.

    Returns:
        The pixels in the region that has the largest share of their segment; and, over all pairs
        that overlap, the pixels of the segment inside or outside the region, whichever are fewer.
    """
    scored = regions >= 0
    bare = int((segments[scored] == unlabelled).sum())
    scored &= segments != unlabelled
    # Pairs that occur, not a table of all: a large image has 10⁴ masks and 10⁵ regions.
    pairs, shared = np.unique(
        segments[scored].astype(np.int64) << 32 | regions[scored], return_counts=True
    )
    starts = np.flatnonzero(np.diff(pairs >> 32, prepend=-1))
    segment_area = np.add.reduceat(shared, starts)
    rest = np.repeat(segment_area, np.diff(starts, append=len(pairs))) - shared
    achieved = np.maximum.reduceat(shared, starts).sum()
    return int(achieved), bare + int(np.minimum(shared, rest).sum())


def count_boundary_overlap(
    prediction: Integer[np.ndarray, "H W"],
    target: Integer[np.ndarray, "H W"],
    num_classes: int,
    ignore_index: int,
) -> Int64[np.ndarray, "2 K"]:
    """Intersection and union, in pixels per class, of the inner margins of both index maps.

    Their ratio is Boundary IoU (Cheng et al., arXiv 2103.16562); a margin is 2 % of the image's
    diagonal wide, the image's own edge is a boundary, both as published. Pixels without a class in
    ``target`` are cut out of both maps first.
    """
    width = max(1, round(0.02 * math.hypot(*target.shape)))

    def margin(inside: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        padded = np.pad(inside, 1).astype(np.uint8)
        depth = cv2.distanceTransform(padded, cv2.DIST_C, cv2.DIST_MASK_3)[1:-1, 1:-1]
        ring: np.ndarray = inside & (depth <= width)
        return ring

    known = target != ignore_index
    overlap = np.zeros((2, num_classes), dtype=np.int64)
    for c in range(num_classes):
        said, true = margin((prediction == c) & known), margin((target == c) & known)
        overlap[:, c] = (said & true).sum(), (said | true).sum()
    return overlap


def count_boundary_matches(
    prediction: Integer[np.ndarray, "H W"],
    target: Integer[np.ndarray, "H W"],
    ignore_index: int,
) -> Int64[np.ndarray, "2 2"]:
    """How much of each index map's outlines lies near the other's.

    The ratio in the first row is the precision, in the second the recall of boundary F1 (Csurka et
    al., BMVC 2013), here of the outlines of all classes at once; near is within 0.75 % of the
    image's diagonal, as there. Between two pixels of which one has no class in ``target`` there
    is no outline.

    Returns:
        Pixels of the prediction's outlines that are near, and all; the same for the target's.
    """
    reach = 0.0075 * math.hypot(*target.shape)
    known = target != ignore_index

    def outline(classes: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        edge = np.zeros(classes.shape, dtype=bool)  # the upper or left one of two unlike pixels
        edge[:-1] |= (classes[:-1] != classes[1:]) & known[:-1] & known[1:]
        edge[:, :-1] |= (classes[:, :-1] != classes[:, 1:]) & known[:, :-1] & known[:, 1:]
        return edge

    def distance(edge: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
        off = (~edge).astype(np.uint8)
        pixels: np.ndarray = cv2.distanceTransform(off, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return pixels

    said, true = outline(prediction), outline(target)
    precise, recalled = said & (distance(true) <= reach), true & (distance(said) <= reach)
    return np.array([[precise.sum(), said.sum()], [recalled.sum(), true.sum()]])


def _ratio(part: int | float, whole: int) -> float:
    return part / whole if whole else math.nan
