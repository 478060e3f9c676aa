"""Compare the masks of a store with ground-truth masks, object by object, to score box prompts.

The scores are the same as in SAMRS (arXiv 2305.02034, section 3.2): the mean IoU of masks and
ground-truth masks, and COCO's average precision of the masks, ranked by SAM's predicted IoU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from alps.errors import LabelError
from alps.masks.valid import keep_data
from alps.metrics.instances import THRESHOLDS, average_precision, match
from alps.protocols import InstanceSet
from alps.store.label_store import LabelStore
from alps.structures import rle
from alps.structures.digest import digest
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord

#: COCO's bounds of small, medium and large objects, in pixels of the ground-truth mask.
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, float("inf")),
}
#: IoU levels; the fraction of objects with at least this IoU is reported.
LEVELS = (0.5, 0.75, 0.9)
DIGITS = 6  # decimals of the numbers in evaluation.json
#: The values recorded for each object.
ROW = np.dtype(
    [
        ("iou", np.float64),
        ("area", np.int64),
        ("category_id", np.int32),
        ("image", np.int32),
        ("mask_id", np.int32),
        ("score", np.float32),
        ("empty", np.bool_),
        ("matched", np.bool_, len(THRESHOLDS)),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class InstanceScores:
    """Scores of all objects that are not ignored and have a ground-truth mask, in store order."""

    categories: Sequence[Category]
    iou: Float[np.ndarray, " N"]  # IoU of each mask and its ground-truth mask
    area: Int64[np.ndarray, " N"]  # pixels of the ground-truth masks
    category_id: Int32[np.ndarray, " N"]
    image: Int32[np.ndarray, " N"]  # position of the image in the plan
    mask_id: Int32[np.ndarray, " N"]
    precision: Float[np.ndarray, "K 10"]  # AP by IoU threshold; NaN for a class without objects
    images: int  # number of images with scored objects
    empty: int  # number of scored masks without pixels
    ignored: int  # number of ignored objects
    unknown: int  # number of objects without a usable ground-truth mask, or mostly no-data
    truth: str  # digest of the ground-truth masks

    @property
    def mean(self) -> float:
        """Mean IoU of the masks and their ground-truth masks; NaN if there are no objects."""
        return _mean(self.iou)

    @property
    def ap(self) -> float:
        """COCO's AP, the mean over IoU thresholds from 0.50 to 0.95 and over the categories."""
        return _mean(self.precision)

    @property
    def ap50(self) -> float:
        """AP at an IoU of 0.50."""
        return _mean(self.precision[:, 0])

    @property
    def ap75(self) -> float:
        """AP at an IoU of 0.75."""
        return _mean(self.precision[:, 5])

    def fraction_above(self, level: float) -> float:
        """Return the fraction of the objects whose IoU is at least ``level``."""
        return _mean((self.iou >= level).astype(np.float64))

    def of_size(self, size: str) -> Float[np.ndarray, " n"]:
        """Return the IoU of the objects of a size, a key of `SIZES`."""
        low, high = SIZES[size]
        return self.iou[(self.area >= low) & (self.area < high)]

    def of_category(self, category_id: int) -> Float[np.ndarray, " n"]:
        """Return the IoU of the objects of a category."""
        chosen: np.ndarray = self.iou[self.category_id == category_id]
        return chosen

    def summary(self) -> dict[str, float | int | None]:
        """Return the main scores; undefined scores are None."""
        return {
            "objects": len(self.iou),
            "IoU": _round(self.mean),
            **{f"IoU {size}": _round(_mean(self.of_size(size))) for size in SIZES},
            "AP": _round(self.ap),
            "AP50": _round(self.ap50),
            "AP75": _round(self.ap75),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the content of evaluation.json: rounded scores, None for undefined scores."""
        return {
            **self.summary(),
            **{f"IoU >= {level}": _round(self.fraction_above(level)) for level in LEVELS},
            "empty": self.empty,
            "ignored": self.ignored,
            "unknown": self.unknown,
            "truth": self.truth,
            "images": self.images,
            "objects by size": {size: len(self.of_size(size)) for size in SIZES},
            "by class": {
                category.name: {
                    "objects": len(of_class := self.of_category(category.id)),
                    "IoU": _round(_mean(of_class)),
                    "AP": _round(_mean(self.precision[category.id])),
                }
                for category in self.categories
            },
        }


def score_instances(store: LabelStore, image_set: InstanceSet) -> InstanceScores:
    """Compare every mask of a store with the ground-truth mask of its box, image by image.

    No-data pixels are excluded from both masks; an object that is mostly no-data is not compared.
    Memory use grows by about 40 bytes per object.

    Args:
        store: a store whose masks were prompted with boxes.
        image_set: the image set that the store was made from.

    Returns:
        The scores of all objects that are not ignored and have a ground-truth mask.

    Raises:
        LabelError: there are objects, but none has a valid ground-truth mask.
    """
    categories = image_set.categories()
    parts = [np.zeros(0, ROW)]
    truth: list[tuple[str, str]] = []
    ignored = unknown = 0
    with logging_redirect_tqdm():
        for index, record, masks, valid in _masks(store):
            assert masks.boxes is not None, "_masks yields only images with boxes"
            scored = np.flatnonzero(~masks.boxes.ignore)
            true = image_set.read_instances(record, masks.boxes[scored], masks.size)
            true = keep_data(true, valid)
            assert true.boxes is not None, "read_instances returns masks with boxes"
            counts = [c.decode() for c in true.counts]
            truth.append((record.image_id, digest(true.boxes.object_id.tolist(), counts)))
            with_truth = scored[np.isin(masks.boxes.object_id[scored], true.boxes.object_id)]
            ignored += len(masks) - len(scored)
            unknown += len(scored) - len(with_truth)
            part = _compare(masks[with_truth], true)
            part["image"], part["mask_id"] = index, with_truth
            parts.append(part)
    objects = np.concatenate(parts)
    if unknown and not len(objects):
        raise LabelError(
            f"none of the {unknown} objects of {image_set.root} has a valid ground-truth mask; add "
            "their masks, or label without evaluate"
        )
    precision = np.zeros((len(categories), len(THRESHOLDS)))
    for category in categories:
        of_class = objects[objects["category_id"] == category.id]
        precision[category.id] = average_precision(
            of_class["score"], of_class["matched"], len(of_class)
        )
    return InstanceScores(
        categories=categories,
        **{name: objects[name] for name in ("iou", "area", "category_id", "image", "mask_id")},
        precision=precision,
        images=len(np.unique(objects["image"])),
        empty=int(objects["empty"].sum()),
        ignored=ignored,
        unknown=unknown,
        truth=digest(truth),
    )


def _masks(
    store: LabelStore,
) -> Iterator[tuple[int, ImageRecord, Masks, Bool[np.ndarray, "H W"] | None]]:
    """Yield (position in the plan, record, masks, valid pixels) of each image with boxes."""
    index = 0
    for shard in tqdm(range(len(store.plan)), "ground-truth masks", unit="shard"):
        masks = store.shard(shard).masks()
        statuses = {status.image_id: status for status in store.shard(shard).images()}
        for record in store.plan[shard]:
            image_masks = masks.get(record.image_id)
            if image_masks is not None and image_masks.boxes is not None:
                yield index, record, image_masks, statuses[record.image_id].read_valid()
            index += 1


def _compare(masks: Masks, true: Masks) -> np.ndarray:
    """Return a `ROW` for each mask, compared with the ground-truth mask at the same index."""
    rows = np.zeros(len(masks), ROW)
    if true.boxes is None or not len(masks):
        return rows
    rows["area"], rows["empty"] = true.area, masks.area == 0
    rows["category_id"], rows["score"] = true.boxes.category_id, masks.predicted_iou
    for category in np.unique(rows["category_id"]):
        positions = np.flatnonzero(rows["category_id"] == category)
        pairs = rle.iou(masks[positions].counts, true[positions].counts, masks.size)
        rows["iou"][positions] = np.diagonal(pairs)
        rows["matched"][positions] = match(pairs, masks.predicted_iou[positions])
    return rows


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, DIGITS)
