"""The masks of a store against the true ones, object by object: how well a prompt works.

As SAMRS scores prompts (arXiv 2305.02034, section 3.2): the mean IoU of masks and true masks, and
COCO's average precision of the masks, scored by the IoU that SAM predicts.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from alps import rle
from alps.boxes import Boxes
from alps.store import LabelStore
from alps.types import Category, ImageRecord, ImageSet, Masks

#: Pixels of a true mask: COCO's bounds of small, medium and large objects.
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, float("inf")),
}


@runtime_checkable
class InstanceSet(ImageSet, Protocol):
    """Images with boxes whose true masks are known."""

    def categories(self) -> list[Category]:
        """Of the boxes."""

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """The true mask of each box; raises `LabelError` where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class InstanceScores:
    """Of all objects that are not ignored."""

    iou: Float[np.ndarray, " N"]  # of each mask with its true one
    area: Int64[np.ndarray, " N"]  # pixels of the true ones
    ap: float  # COCO's: mean over IoU 0.50 to 0.95 and over the categories
    ap50: float
    ap75: float

    @property
    def mean(self) -> float:
        """NaN where there is no object."""
        return float(self.iou.mean()) if len(self.iou) else float("nan")

    def of_size(self, size: str) -> tuple[int, float]:
        """How many objects of one of `SIZES` there are, and their mean IoU."""
        low, high = SIZES[size]
        chosen = self.iou[(self.area >= low) & (self.area < high)]
        return len(chosen), float(chosen.mean()) if len(chosen) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """What evaluation.json holds."""
        sizes = {name: self.of_size(name) for name in SIZES}
        return {
            "objects": len(self.iou),
            "IoU": self.mean,
            **{f"IoU {name}": mean for name, (_, mean) in sizes.items()},
            "AP": self.ap,
            "AP50": self.ap50,
            "AP75": self.ap75,
            "objects by size": {name: n for name, (n, _) in sizes.items()},
        }


def score_instances(store: LabelStore, image_set: InstanceSet) -> InstanceScores:
    """Compare every mask of a store with the true mask of its box.

    Raises:
        LabelError: an object has no true mask.
    """
    iou: list[np.ndarray] = []
    area: list[np.ndarray] = []
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    images: list[dict[str, int]] = []
    bar = tqdm(range(len(store.plan)), "true masks", unit="shard")
    for shard in bar:
        masks = store.masks(shard)
        for record in store.plan[shard]:
            own = masks.get(record.image_id)
            if own is None or own.boxes is None:
                continue
            own = own[~own.boxes.ignore]
            assert own.boxes is not None, "an index keeps them"
            true = image_set.read_instances(record, own.boxes, own.size)
            pairs = zip(own.counts, true.counts, strict=True)
            iou.append(np.array([rle.iou([a], [b], own.size)[0, 0] for a, b in pairs]))
            area.append(true.area)
            images.append({"id": len(images), "height": own.size[0], "width": own.size[1]})
            truth += _rows(true, len(images) - 1, len(truth))
            found += _rows(own, len(images) - 1, len(found))
    ap = _average_precision(images, truth, found, image_set.categories())
    return InstanceScores(
        np.concatenate(iou) if iou else np.zeros(0),
        np.concatenate(area) if area else np.zeros(0, np.int64),
        *ap,
    )


def write_instances(store: LabelStore, scores: InstanceScores) -> None:
    """Keep the scores in evaluation.json."""
    store.write_text("evaluation.json", json.dumps(scores.to_json(), indent=1))


def print_instances(scores: InstanceScores) -> None:
    """The scores on the terminal."""
    table = Table("", "objects", "mean IoU", title="against the true masks", title_justify="left")
    for size in SIZES:
        n, mean = scores.of_size(size)
        table.add_row(size, str(n), f"{mean:.4f}" if n else "")
    table.add_row("all", str(len(scores.iou)), f"{scores.mean:.4f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"AP {scores.ap:.4f}, AP50 {scores.ap50:.4f}, AP75 {scores.ap75:.4f}")


def _rows(masks: Masks, image: int, start: int) -> list[dict[str, Any]]:
    """COCO annotations."""
    assert masks.boxes is not None, "the caller saw to it"
    return [
        {
            "id": start + i + 1,
            "image_id": image,
            "category_id": int(masks.boxes.category_id[i]),
            "segmentation": {"size": [*masks.size], "counts": masks.counts[i]},
            "area": float(masks.area[i]),
            "bbox": [0, 0, 1, 1],  # asked for, and not used for masks
            "iscrowd": 0,
            "score": float(masks.predicted_iou[i]),
        }
        for i in range(len(masks))
    ]


def _average_precision(
    images: list[dict[str, Any]],
    truth: list[dict[str, Any]],
    found: list[dict[str, Any]],
    categories: list[Category],
) -> tuple[float, float, float]:
    """AP, AP50, AP75; NaN where there is no object."""
    if not truth:
        return (float("nan"),) * 3
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        sides = []
        for rows in (truth, found):
            side = COCO()
            side.dataset = {
                "images": images,
                "annotations": rows,
                "categories": [{"id": c.id, "name": c.name} for c in categories],
            }
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, iouType="segm")
        # An image with more objects than this would lose the rest.
        most = max(np.bincount([row["image_id"] for row in truth]).max(), 100)
        evaluation.params.maxDets = [1, 10, int(most)]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # IoU × recall × category, of all areas
    known = precision[:, :, (precision > -1).all((0, 1))]
    return tuple(float(known[part].mean()) for part in (slice(None), 0, 5))  # type: ignore[return-value]  # three
