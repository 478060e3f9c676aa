"""The SA-1B format, which has no classes: one JSON file per image.

The keys are described at https://github.com/facebookresearch/segment-anything#dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alps.export.instances import Instances, Tally, read_instances
from alps.export.rows import file_name, floats, segmentation, to_json
from alps.store.label_store import LabelStore
from alps.structures.tiles import box_xyxy_to_xywh


def write_sa1b(store: LabelStore, folder: Path) -> Tally:
    """Write <image id>.json for each image, with all masks that are not empty.

    Values missing from the store are null, and "point_coords" is empty for a mask that was not
    prompted with a point. "crop_box" is always the entire image, because stores do not contain the
    tiles of large images.

    Returns:
        The numbers of exported images and masks, and of skipped masks.
    """
    tally, first = Tally(), 1
    for stored in read_instances(store):
        image = tally.select(stored, {"empty": stored.masks.area == 0})
        path = folder / f"{image.record.image_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(_file(image, first)), encoding="ascii")
        first += len(image.masks)
    return tally


def _file(image: Instances, first: int) -> dict[str, Any]:
    """Return the content of a file; annotations are numbered from ``first``."""
    masks = image.masks
    height, width = masks.size
    xywh = box_xyxy_to_xywh(masks.xyxy)
    predicted_iou, stability_score = floats(masks.predicted_iou), floats(masks.stability_score)
    points = [floats(point) for point in masks.point_coords]
    return {
        "image": {
            "image_id": image.number,
            "width": width,
            "height": height,
            "file_name": file_name(image.record),
        },
        "annotations": [
            {
                "id": first + i,
                "segmentation": segmentation(masks, i),
                "bbox": floats(xywh[i]),
                "area": int(masks.area[i]),
                "predicted_iou": predicted_iou[i],
                "stability_score": stability_score[i],
                "crop_box": [0, 0, width, height],
                "point_coords": [] if None in points[i] else [points[i]],
            }
            for i in range(len(masks))
        ],
    }
