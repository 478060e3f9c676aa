"""Count masks that were prompted with boxes: their sizes, and their IoU with the boxes.

The sizes by class and subset are those of SAMRS (arXiv 2305.02034, section 4), the IoU of mask and
box is that of SAMText (arXiv 2305.01443, section 3). Ignored boxes are counted, and excluded from
all other counts.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64

from alps.evaluation.objects import SIZES
from alps.report.counts.histogram import empty_histogram
from alps.report.counts.tracks import TrackCensus, clip_steps
from alps.store.label_store import ImageStatus, LabelStore
from alps.structures import rle
from alps.structures.boxes import Boxes
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord

#: Edges of the bins of mask sizes in pixels: four per decade; larger masks are in the last bin.
SIZE_EDGES = np.logspace(0, 8, 33)
#: Edges of the bins of the IoU of a mask and its box.
IOU_EDGES = np.linspace(0, 1, 21)

MOST_DROPPED = 10  # number of images to list
UPRIGHT = 1e-3  # tolerance for the corners of a horizontal box, in pixels


@dataclass(slots=True, eq=False)
class Objects:
    """The objects of one split. C is K + 1: a row per class, the last for no class."""

    sizes: Int64[np.ndarray, "C S"]  # objects that are not ignored, by COCO's sizes
    pixels: Int64[np.ndarray, " C"]  # sum over the masks; pixels in two masks count twice
    iou: Float64[np.ndarray, " C"]  # sum of the IoU of mask and prompt box
    areas: Int64[np.ndarray, " A"]  # objects by mask size; empty masks are in no bin
    ignored: int = 0
    blank: int = 0  # empty masks of objects that are not ignored
    dropped: int = 0  # annotations that could not be used

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
class BoxCensus:
    """The counts of all splits."""

    num_classes: int
    prompt: str  # one of `alps.masks.box.PROMPTS`
    tracks: TrackCensus
    splits: dict[str, Objects] = field(default_factory=dict)
    # Objects by the IoU of their mask and the prompt box (clipped to the image), and of their mask
    # and the annotated box where this is rotated.
    prompt_iou: Int64[np.ndarray, " B"] = field(default_factory=lambda: empty_histogram(IOU_EDGES))
    rotated_iou: Int64[np.ndarray, " B"] = field(default_factory=lambda: empty_histogram(IOU_EDGES))
    most_dropped: list[ImageStatus] = field(default_factory=list)  # those with most
    images_dropped: int = 0  # images with a dropped annotation

    @classmethod
    def of(cls, store: LabelStore) -> BoxCensus:
        """Return counts of zero for a store."""
        tracks = TrackCensus(clip_steps(store.plan))
        return cls(store.info.num_classes, prompt_of(store), tracks)

    def __bool__(self) -> bool:
        """Return whether any box was counted, used or dropped."""
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
        assert masks.boxes is not None, "an index keeps them"
        size = np.digitize(masks.area, [low for low, _ in SIZES.values()]) - 1
        np.add.at(objects.sizes, (category_id, size), 1)  # -1 is the last row
        np.add.at(objects.pixels, category_id, masks.area)
        drawn = masks.area[masks.area > 0]
        objects.blank += len(masks) - len(drawn)
        objects.areas += np.histogram(drawn.clip(max=int(SIZE_EDGES[-1])), SIZE_EDGES)[0]
        iou = quad_iou(masks, prompt_quads(masks.boxes, self.prompt, masks.size))
        np.add.at(objects.iou, category_id, iou)
        self.prompt_iou += np.histogram(iou, IOU_EDGES)[0]
        turned = is_rotated(masks.boxes.quad)
        iou = quad_iou(masks[turned], masks.boxes.quad[turned])
        self.rotated_iou += np.histogram(iou, IOU_EDGES)[0]

    def count_dropped(self, record: ImageRecord, status: ImageStatus) -> None:
        """Count the annotations of an image that could not be used."""
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
        prompt: one of `alps.masks.box.PROMPTS`; for a point, the horizontal box is returned.
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
