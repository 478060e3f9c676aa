"""Scores of class-agnostic masks against ground truth: how good labels they allow."""

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
from alps.structures.paint import count_covered, ignore_index_for, paint

#: COCO's IoU thresholds: 0.50, 0.55, …, 0.95.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts of the masks of some images; the tallies of several images can be added.

    Scores are NaN if they are undefined.
    """

    images: int
    masks: int
    pixels: int  # valid pixels
    covered: int  # pixels inside at least one mask
    regions: int  # ground-truth regions
    recalled_100: Int64[np.ndarray, " 10"]  # recalled regions per IoU threshold, best 100 masks
    recalled_1000: Int64[np.ndarray, " 10"]
    scored: int  # pixels with a class
    achieved: int  # pixels; first count of `count_overlaps`
    leaked: int  # pixels; second count of `count_overlaps`
    oracle: Contingency  # each mask painted with its most frequent class
    boundary_overlap: Int64[np.ndarray, "2 K"]  # of the oracle's index map
    boundary_matches: Int64[np.ndarray, "2 2"]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    @property
    def coverage(self) -> float:
        """Fraction of the valid pixels inside at least one mask."""
        return _ratio(self.covered, self.pixels)

    @property
    def masks_per_image(self) -> float:
        """Mean number of masks per image."""
        return _ratio(self.masks, self.images)

    @property
    def ar_100(self) -> float:
        """Average recall (COCO, mean over `IOU_THRESHOLDS`) of the best 100 masks per image."""
        return _ratio(self.recalled_100.mean(), self.regions)

    @property
    def ar_1000(self) -> float:
        """COCO's average recall of the best 1000 masks per image."""
        return _ratio(self.recalled_1000.mean(), self.regions)

    @property
    def achievable_accuracy(self) -> float:
        """Achievable segmentation accuracy (`count_overlaps`)."""
        return _ratio(self.achieved, self.scored)

    @property
    def undersegmentation_error(self) -> float:
        """Under-segmentation error (`count_overlaps`)."""
        return _ratio(self.leaked, self.scored)

    @property
    def boundary_iou(self) -> float:
        """Boundary IoU, mean over the classes (`count_boundary_overlap`)."""
        shared, either = self.boundary_overlap
        return float((shared / either)[either > 0].mean()) if either.any() else math.nan

    @property
    def boundary_f1(self) -> float:
        """Boundary F1, harmonic mean of precision and recall (`count_boundary_matches`)."""
        (matched_predicted, predicted), (matched_true, true) = self.boundary_matches.tolist()
        denominator = matched_predicted * true + matched_true * predicted
        return (
            2 * matched_predicted * matched_true / denominator
            if denominator
            else _ratio(0, predicted + true)
        )


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
        masks: masks of the image; its size is that of ``target``.
        target: classes in [0, num_classes), or ``ignore_index``.
        num_classes: number of classes, K.
        ignore_index: value of pixels without a class.
        min_area: minimum area of regions that count for the recall, in pixels.
        pixels: number of valid pixels, the denominator of the coverage; None: all.

    Returns:
        The counts of this image.
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
        covered=count_covered(masks),
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
    """Label the connected regions of each class (8 neighbours) from 0; -1: no class."""
    parts = np.full(target.shape, -1, dtype=np.int32)
    n = 0
    for c in np.unique(target[target != ignore_index]):
        n_components, of_class = cv2.connectedComponents((target == c).astype(np.uint8))
        inside = of_class > 0
        parts[inside] = of_class[inside] + (n - 1)
        n += n_components - 1
    return parts


def region_masks(parts: Int32[np.ndarray, "H W"], min_area: int) -> Masks:
    """Convert the result of `find_regions` to masks; omit regions below ``min_area`` pixels."""
    counts = []
    for i, window in enumerate(ndimage.find_objects(parts + 1)):
        inside = parts[window] == i
        if inside.sum() >= min_area:
            counts.append(rle.encode_window(inside, window[1].start, window[0].start, parts.shape))
    return Masks.from_counts(counts, parts.shape)


def count_recalled(masks: Masks, regions: Masks, limit: int) -> Int64[np.ndarray, " 10"]:
    """Count the regions that masks recall at each of `IOU_THRESHOLDS`.

    Divided by the number of regions and averaged over the thresholds, this is COCO's AR@limit
    without classes. Regions must not overlap: then no mask can have an IoU above 0.5 with two of
    them, and COCO's one-to-one matching is equivalent to the best mask per region.

    Args:
        masks: masks of one image; the ``limit`` masks with the highest ``predicted_iou`` are used,
            or the first ``limit`` masks if it is unknown.
        regions: ground-truth masks, from `region_masks` or of instances.
        limit: maximum number of masks per image.

    Returns:
        The number of recalled regions at each threshold.
    """
    best = masks[np.argsort(-masks.predicted_iou, kind="stable")[:limit]]
    iou = rle.iou(best.counts, regions.counts, masks.size).max(axis=0, initial=0)
    recalled: np.ndarray = (iou >= IOU_THRESHOLDS[:, None]).sum(axis=1)
    return recalled


def oracle(
    masks: Masks, target: Integer[np.ndarray, "H W"], num_classes: int, ignore_index: int
) -> Int64[np.ndarray, " N"]:
    """Return the most frequent class inside each mask; -1 if no pixel has a class.

    Args:
        masks: masks of the image; its size is that of ``target``.
        target: classes in [0, num_classes), or ``ignore_index``.
        num_classes: number of classes.
        ignore_index: value of pixels without a class.

    Returns:
        The class of each mask.
    """
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
    """Measure how well regions can be composed of segments.

    Divided by the number of pixels in regions, the first count is the achievable segmentation
    accuracy (Liu et al., CVPR 2011) and the second the under-segmentation error (Neubert & Protzel,
    Forum Bildverarbeitung 2012). Both are defined for partitions, so a pixel without a segment
    counts as wrong in both.

    Args:
        segments: index of the topmost mask, drawn by `paint` with one class per mask.
        regions: index of the region, from `find_regions`.
        unlabelled: value of ``segments`` for pixels without a mask.

    Returns:
        Two numbers of pixels. The first is the sum, over segments, of the largest overlap with a
        region. The second is the sum, over all overlapping pairs of a segment and a region, of the
        pixels of the segment inside or outside the region, whichever are fewer.
    """
    scored = regions >= 0
    uncovered = int((segments[scored] == unlabelled).sum())
    scored &= segments != unlabelled
    # Only pairs that occur are counted: a large image has 10⁴ masks and 10⁵ regions.
    pairs, shared = np.unique(
        segments[scored].astype(np.int64) << 32 | regions[scored], return_counts=True
    )
    starts = np.flatnonzero(np.diff(pairs >> 32, prepend=-1))
    segment_area = np.add.reduceat(shared, starts)
    rest = np.repeat(segment_area, np.diff(starts, append=len(pairs))) - shared
    achieved = np.maximum.reduceat(shared, starts).sum()
    return int(achieved), uncovered + int(np.minimum(shared, rest).sum())


def count_boundary_overlap(
    prediction: Integer[np.ndarray, "H W"],
    target: Integer[np.ndarray, "H W"],
    num_classes: int,
    ignore_index: int,
) -> Int64[np.ndarray, "2 K"]:
    """Count the pixels per class in the intersection and union of two index maps' inner margins.

    Their ratio is Boundary IoU (Cheng et al., arXiv 2103.16562). As published, a margin is 2 % of
    the image diagonal wide and the image border is a boundary. Pixels without a class in ``target``
    are removed from both maps first.

    Args:
        prediction: predicted classes.
        target: classes in [0, num_classes), or ``ignore_index``.
        num_classes: number of classes, K.
        ignore_index: value of pixels without a class.

    Returns:
        The intersection (first row) and the union (second row) of each class.
    """
    width = max(1, round(0.02 * math.hypot(*target.shape)))

    def margin(inside: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        padded = np.pad(inside, 1).astype(np.uint8)
        depth = cv2.distanceTransform(padded, cv2.DIST_C, cv2.DIST_MASK_3)[1:-1, 1:-1]
        ring: np.ndarray = inside & (depth <= width)
        return ring

    labelled = target != ignore_index
    overlap = np.zeros((2, num_classes), dtype=np.int64)
    for c in range(num_classes):
        predicted, true = margin((prediction == c) & labelled), margin((target == c) & labelled)
        overlap[:, c] = (predicted & true).sum(), (predicted | true).sum()
    return overlap


def count_boundary_matches(
    prediction: Integer[np.ndarray, "H W"],
    target: Integer[np.ndarray, "H W"],
    ignore_index: int,
) -> Int64[np.ndarray, "2 2"]:
    """Count the outline pixels of each index map that are near outlines of the other index map.

    The ratio in the first row is the precision and in the second the recall of boundary F1 (Csurka
    et al., BMVC 2013), here for the outlines of all classes together. Near means at most 0.75 % of
    the image diagonal away, as published. Two pixels have no outline between them if one of them
    has no class in ``target``.

    Args:
        prediction: predicted classes.
        target: classes, or ``ignore_index``.
        ignore_index: value of pixels without a class.

    Returns:
        The numbers of near and of all outline pixels: of the prediction (first row) and of the
        target (second row).
    """
    max_distance = 0.0075 * math.hypot(*target.shape)
    labelled = target != ignore_index

    def outline(classes: Integer[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        # True at the upper or left of two pixels with different classes.
        edge = np.zeros(classes.shape, dtype=bool)
        edge[:-1] |= (classes[:-1] != classes[1:]) & labelled[:-1] & labelled[1:]
        edge[:, :-1] |= (classes[:, :-1] != classes[:, 1:]) & labelled[:, :-1] & labelled[:, 1:]
        return edge

    def distance(edge: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
        background = (~edge).astype(np.uint8)
        pixels: np.ndarray = cv2.distanceTransform(background, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return pixels

    predicted, true = outline(prediction), outline(target)
    near_true, near_predicted = (
        predicted & (distance(true) <= max_distance),
        true & (distance(predicted) <= max_distance),
    )
    return np.array([[near_true.sum(), predicted.sum()], [near_predicted.sum(), true.sum()]])


def _ratio(part: int | float, whole: int) -> float:
    return part / whole if whole else math.nan
