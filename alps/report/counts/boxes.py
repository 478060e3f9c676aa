"""Count masks that were prompted with boxes: their sizes, and their IoU with the boxes.

Sizes by class and split are counted as in SAMRS (arXiv 2305.02034, section 4), and the IoU of mask
and box as in SAMText (arXiv 2305.01443, section 3). Ignored boxes are counted, but excluded from
sizes and IoU.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64

from alps.evaluation.objects import SIZES
from alps.report.counts.histogram import empty_histogram
from alps.report.counts.tracks import TrackStatistics, clip_steps
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.structures import rle
from alps.structures.boxes import Boxes
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord

#: Bin edges of mask sizes in pixels, four bins per decade; larger masks are in the last bin.
SIZE_EDGES = np.logspace(0, 8, 33)
#: Bin edges of the IoU of a mask and its box.
IOU_EDGES = np.linspace(0, 1, 21)

MOST_DROPPED = 10  # number of images to list, those with the most dropped annotations
UPRIGHT = 1e-3  # tolerance for the corners of a horizontal box, in pixels


@dataclass(slots=True, eq=False)
class Objects:
    """The objects of one split. C is K + 1: one row per class, and the last row for no class."""

    sizes: Int64[np.ndarray, "C S"]  # number of objects that are not ignored, by COCO's sizes
    pixels: Int64[np.ndarray, " C"]  # sum of the mask areas; a pixel in two masks counts twice
    iou: Float64[np.ndarray, " C"]  # sum of the IoU of mask and prompt box
    areas: Int64[np.ndarray, " A"]  # number of objects by mask size; empty masks are in no bin
    ignored: int = 0
    blank: int = 0  # number of empty masks of objects that are not ignored
    dropped: int = 0  # number of unusable annotations

    @classmethod
    def zeros(cls, num_classes: int) -> Objects:
        """Return counts of zero."""
        n = num_classes + 1
        return cls(
            sizes=np.zeros((n, len(SIZES)), np.int64),
            pixels=np.zeros(n, np.int64),
            iou=np.zeros(n),
            areas=empty_histogram(SIZE_EDGES),
        )

    @property
    def by_class(self) -> Int64[np.ndarray, " C"]:
        """The number of objects of each class."""
        counts: np.ndarray = self.sizes.sum(axis=1)
        return counts


@dataclass(slots=True, eq=False)
class BoxStatistics:
    """The counts of all splits."""

    num_classes: int
    prompt: str  # one of `alps.masks.limits.PROMPTS`
    tracks: TrackStatistics
    splits: dict[str, Objects] = field(default_factory=dict)
    # Number of objects by the IoU of mask and prompt box (clipped to the image), and, for rotated
    # boxes, by the IoU of mask and annotated box.
    prompt_iou: Int64[np.ndarray, " B"] = field(default_factory=lambda: empty_histogram(IOU_EDGES))
    rotated_iou: Int64[np.ndarray, " B"] = field(default_factory=lambda: empty_histogram(IOU_EDGES))
    # The `MOST_DROPPED` images with the most dropped annotations.
    most_dropped: list[ImageStatus] = field(default_factory=list)
    images_dropped: int = 0  # number of images with dropped annotations

    @classmethod
    def of(cls, store: LabelStore) -> BoxStatistics:
        """Return counts of zero for a store."""
        tracks = TrackStatistics(clip_steps(store.plan))
        return cls(store.info.num_classes, prompt_of(store), tracks)

    def __bool__(self) -> bool:
        """Return whether there is any box, used or dropped."""
        return bool(self.splits)

    def count(self, record: ImageRecord, masks: Masks, category_id: Int[np.ndarray, " N"]) -> None:
        """Count the masks of an image; call it in the order of the plan.

        Args:
            record: the image.
            masks: the masks of the image.
            category_id: the class of each mask; -1 for none.
        """
        self.tracks.count(record, masks)
        if masks.boxes is None:
            return
        objects = self._objects(record.split)
        objects.ignored += int(masks.boxes.ignore.sum())
        keep = ~masks.boxes.ignore
        masks, category_id = masks[keep], category_id[keep]
        assert masks.boxes is not None, "indexing keeps the boxes"
        size = np.digitize(masks.area, [low for low, _ in SIZES.values()]) - 1
        np.add.at(objects.sizes, (category_id, size), 1)  # the class -1 is the last row
        np.add.at(objects.pixels, category_id, masks.area)
        areas = masks.area[masks.area > 0]
        objects.blank += len(masks) - len(areas)
        objects.areas += np.histogram(areas.clip(max=int(SIZE_EDGES[-1])), SIZE_EDGES)[0]
        iou = quad_iou(masks, prompt_quads(masks.boxes, self.prompt, masks.size))
        np.add.at(objects.iou, category_id, iou)
        self.prompt_iou += np.histogram(iou, IOU_EDGES)[0]
        rotated = is_rotated(masks.boxes.quad)
        iou = quad_iou(masks[rotated], masks.boxes.quad[rotated])
        self.rotated_iou += np.histogram(iou, IOU_EDGES)[0]

    def count_dropped(self, record: ImageRecord, status: ImageStatus) -> None:
        """Count the dropped annotations of an image."""
        if status.dropped:
            self.images_dropped += 1
            self._objects(record.split).dropped += status.dropped
            self.most_dropped = heapq.nlargest(
                MOST_DROPPED, [*self.most_dropped, status], key=lambda s: s.dropped
            )

    def _objects(self, split: str) -> Objects:
        return self.splits.setdefault(split, Objects.zeros(self.num_classes))


def prompt_of(store: LabelStore) -> str:
    """Return the kind of prompt of a store; "hbox" if the store does not record it."""
    return str(store.info.stages["masks"]["identity"].get("prompt", "hbox"))


def prompt_quads(boxes: Boxes, prompt: str, size: tuple[int, int]) -> Float32[np.ndarray, "N 8"]:
    """Return the corners of the prompt boxes, in pixels of the image.

    Args:
        boxes: the annotated boxes.
        prompt: one of `alps.masks.limits.PROMPTS`; for a point, the horizontal box is returned.
        size: (H, W) of the image, in pixels.

    Returns:
        Four corners (x, y) of each box.
    """
    if prompt == "rbox_mask":
        return boxes.quad
    xyxy = boxes.xyxy
    if prompt.startswith("rhbox"):
        corners = boxes.quad.reshape(-1, 4, 2)
        ends = np.stack([corners.min(1), corners.max(1)], axis=1)
        xyxy = ends.clip(0, np.array(size[::-1], np.float32)).reshape(-1, 4)
    quads: np.ndarray = xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    return quads


def is_rotated(quads: Float32[np.ndarray, "N 8"]) -> Bool[np.ndarray, " N"]:
    """Return whether each box differs from the horizontal box around its four corners."""
    corners = quads.reshape(-1, 4, 2)
    low, high = corners.min(1, keepdims=True), corners.max(1, keepdims=True)
    off: np.ndarray = np.minimum(corners - low, high - corners).max((1, 2), initial=0)
    return off > UPRIGHT


def quad_iou(masks: Masks, quads: Float32[np.ndarray, "N 8"]) -> Float64[np.ndarray, " N"]:
    """Return the IoU of each mask and its filled quadrilateral; 0 if both are empty."""
    pairs = zip(masks.counts, quads, strict=True)
    filled = ((a, rle.encode_quad(quad, masks.size)) for a, quad in pairs)
    return np.array([rle.iou([a], [b], masks.size)[0, 0] for a, b in filled], np.float64)
