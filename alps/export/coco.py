"""COCO instances (arXiv 1405.0312): one JSON file for each split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alps import rle
from alps.export.instances import Instances, Tally, read_instances
from alps.export.rows import file_name, floats, segmentation, write_annotations
from alps.geometry import box_xyxy_to_xywh
from alps.store import LabelStore


def write_coco(store: LabelStore, folder: Path) -> Tally:
    """Write instances_<split>.json, an annotation a line.

    Ignored boxes are crowds, which COCO's scores leave alone. Beyond COCO's own keys an annotation
    has "rbox", the four corners of the smallest rectangle around its mask, and where it was
    prompted with a box that "prompt_box" (XYWH) and, of a detector, its "score".
    """
    tally = Tally()
    for split in dict.fromkeys(record.split for records in store.plan for record in records):
        images: list[dict[str, Any]] = []
        rows = _rows(store, split, images, tally)
        write_annotations(folder / f"instances_{split}.json", rows, store, images=images)
    return tally


def _rows(
    store: LabelStore, split: str, images: list[dict[str, Any]], tally: Tally
) -> Iterator[dict[str, Any]]:
    """All annotations of a split; adds its images to ``images``."""
    for every in read_instances(store, split):
        image = tally.take(
            every, {"empty": every.masks.area == 0, "unlabelled": every.category_id < 0}
        )
        images.append(_image(image))
        yield from _annotations(image)


def _image(image: Instances) -> dict[str, Any]:
    height, width = image.masks.size
    return {
        "id": image.number,
        "file_name": file_name(image.record),
        "width": width,
        "height": height,
    }


def _annotations(image: Instances) -> list[dict[str, Any]]:
    masks = image.masks
    xywh, rbox = box_xyxy_to_xywh(masks.xyxy), rle.rotated_boxes(masks.counts, masks.size)
    rows: list[dict[str, Any]] = [
        {
            "image_id": image.number,
            "category_id": int(image.category_id[i]),
            "segmentation": segmentation(masks, i),
            "bbox": floats(xywh[i]),
            "area": int(masks.area[i]),
            "iscrowd": int(image.ignore[i]),
            "rbox": floats(rbox[i]),
        }
        for i in range(len(masks))
    ]
    if masks.boxes is not None:
        prompts = box_xyxy_to_xywh(masks.boxes.xyxy)
        for row, prompt, score in zip(rows, prompts, floats(masks.boxes.score), strict=True):
            row["prompt_box"] = floats(prompt)
            if score is not None:
                row["score"] = score
    return rows
