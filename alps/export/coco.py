"""COCO instances (arXiv 1405.0312): one JSON file for each split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from alps.export.instances import Instances, Tally, read_instances
from alps.export.rows import file_name, floats, segmentation, write_annotations
from alps.export.source_ids import SourceIds
from alps.store.label_store import LabelStore
from alps.structures import rle
from alps.structures.tiles import box_xyxy_to_xywh


def write_coco(store: LabelStore, folder: Path) -> Tally:
    """Write instances_<split>.json, one annotation per line.

    Ignored boxes get ``iscrowd=1``, so COCO's metrics do not score them. In addition to COCO's
    keys, an annotation has "rbox", the four corners of the minimum-area rectangle around its mask
    in pixels, and, if its prompt was a box, "prompt_box" (XYWH). "score" is the score of the
    annotated box or, if it has none, SAM's predicted IoU. If the store was made from a COCO file,
    the ids of that file are kept if possible (`SourceIds`).

    Returns:
        The numbers of exported images and masks, and of skipped masks.
    """
    tally, ids = Tally(), SourceIds.of(store)
    categories = [{**asdict(c), "id": ids.category(c.id)} for c in store.categories()]
    for split in dict.fromkeys(record.split for records in store.plan for record in records):
        images: list[dict[str, Any]] = []
        rows = _rows(store, split, images, tally, ids)
        write_annotations(
            folder / f"instances_{split}.json", rows, store, categories=categories, images=images
        )
    return tally


def _rows(
    store: LabelStore, split: str, images: list[dict[str, Any]], tally: Tally, ids: SourceIds
) -> Iterator[dict[str, Any]]:
    """Yield the annotations of a split and append its images to ``images``."""
    for stored in read_instances(store, split):
        image = tally.select(
            stored, {"empty": stored.masks.area == 0, "unlabelled": stored.category_id < 0}
        )
        images.append(_image(image, ids))
        yield from _annotations(image, ids)


def _image(image: Instances, ids: SourceIds) -> dict[str, Any]:
    height, width = image.masks.size
    return {
        "id": ids.image(image),
        "file_name": file_name(image.record),
        "width": width,
        "height": height,
    }


def _annotations(image: Instances, ids: SourceIds) -> list[dict[str, Any]]:
    masks = image.masks
    xywh, rbox = box_xyxy_to_xywh(masks.xyxy), rle.rotated_boxes(masks.counts, masks.size)
    rows: list[dict[str, Any]] = [
        {
            **ids.annotation(image, i),
            "image_id": ids.image(image),
            "category_id": ids.category(int(image.category_id[i])),
            "segmentation": segmentation(masks, i),
            "bbox": floats(xywh[i]),
            "area": int(masks.area[i]),
            "iscrowd": int(image.ignore[i]),
            "rbox": floats(rbox[i]),
        }
        for i in range(len(masks))
    ]
    scores = masks.predicted_iou
    if masks.boxes is not None:
        for row, prompt in zip(rows, box_xyxy_to_xywh(masks.boxes.xyxy), strict=True):
            row["prompt_box"] = floats(prompt)
        scores = np.where(np.isnan(masks.boxes.score), scores, masks.boxes.score)
    for row, score in zip(rows, floats(scores), strict=True):
        if score is not None:
            row["score"] = score
    return rows
