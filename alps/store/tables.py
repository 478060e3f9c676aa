"""The tables of a label store: their columns, and conversion from and to rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pyarrow as pa

from alps.store.layout import ImageStatus
from alps.structures import rle
from alps.structures.boxes import Boxes
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.tiles import box_xywh_to_xyxy, box_xyxy_to_xywh

MASKS = pa.schema(
    [
        ("image_id", pa.string()),
        ("mask_id", pa.int32()),
        ("size", pa.list_(pa.int32(), 2)),
        ("counts", pa.binary()),
        ("bbox", pa.list_(pa.float32(), 4)),
        ("area", pa.int64()),
        ("predicted_iou", pa.float32()),
        ("stability_score", pa.float32()),
        ("point_coords", pa.list_(pa.float32(), 2)),
        # Null if the mask was not prompted with a box.
        ("source_category_id", pa.int32()),
        ("object_id", pa.int32()),
        ("prompt_box", pa.list_(pa.float32(), 4)),
        ("prompt_quad", pa.list_(pa.float32(), 8)),
        ("rbox", pa.list_(pa.float32(), 8)),
        ("score", pa.float32()),
        ("ignore", pa.bool_()),
        ("track_id", pa.int32()),
        ("text", pa.string()),
    ]
)
LABELS = pa.schema(
    [
        ("image_id", pa.string()),
        ("mask_id", pa.int32()),
        ("category_id", pa.int32()),
        ("distance", pa.float32()),
    ]
)
PLAN = pa.schema(
    [
        ("shard", pa.int32()),
        ("split", pa.string()),
        ("image_id", pa.string()),
        ("file_name", pa.string()),
        ("bytes", pa.int64()),
        ("video_id", pa.string()),
        ("frame_index", pa.int32()),
        ("annotations", pa.string()),
        ("source_ids", pa.string()),
        # The part of the file, px; plans of whole images lack this column.
        ("window", pa.struct([(name, pa.int32()) for name in ("x0", "y0", "x1", "y1")])),
    ]
)
IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("n_masks", pa.int32()),
        ("covered", pa.int64()),
        ("dropped", pa.int32()),
        # Compressed COCO RLE of the valid pixels, null if all are valid. Shards without no-data
        # pixels lack this column.
        ("valid", pa.binary()),
        ("sha256", pa.string()),
        # Georeference of the raster, also if the image is a window of it. Shards without
        # georeferenced images lack these columns.
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64(), 6)),
        ("gcps", pa.list_(pa.list_(pa.float64(), 5))),
    ]
)
#: Columns of `IMAGES` that are omitted if all values are null.
OPTIONAL = ("valid", "crs", "transform", "gcps")


def statuses_to_table(statuses: Sequence[ImageStatus]) -> pa.Table:
    """Convert the statuses of images to rows of images/."""
    rows = []
    for status in statuses:
        row = {f.name: getattr(status, f.name) for f in fields(status) if f.name in IMAGES.names}
        if (place := status.georeference) is not None:
            row |= {"crs": place.crs, "transform": place.transform, "gcps": place.gcps or None}
        rows.append(row)
    table = pa.Table.from_pylist(rows, IMAGES)
    return table.drop([name for name in OPTIONAL if table[name].null_count == len(table)])


def table_to_statuses(table: pa.Table) -> list[ImageStatus]:
    """Convert rows of images/ to the statuses of images."""
    statuses = []
    for row in table.to_pylist():
        crs, transform, gcps = (row.pop(name, None) for name in ("crs", "transform", "gcps"))
        place = None
        if crs is not None or transform is not None or gcps is not None:
            points = tuple((x[0], x[1], x[2], x[3], x[4]) for x in gcps or ())
            place = Georeference(crs, None if transform is None else (*transform,), points)
        statuses.append(ImageStatus(**row, georeference=place))
    return statuses


def masks_to_table(image_id: str, masks: Masks) -> pa.Table:
    """Convert the masks of one image to rows of masks/, one per mask."""
    n = len(masks)
    columns = {
        "image_id": pa.array([image_id] * n, pa.string()),
        "mask_id": np.arange(n, dtype=np.int32),
        "size": _lists(np.tile(np.asarray(masks.size, np.int32), (n, 1))),
        "counts": pa.array(masks.counts, pa.binary()),
        "bbox": _lists(box_xyxy_to_xywh(masks.xyxy)),
        "area": masks.area,
        "predicted_iou": masks.predicted_iou,
        "stability_score": masks.stability_score,
        "point_coords": _lists(masks.point_coords),
    }
    if (boxes := masks.boxes) is not None:
        columns |= {
            "source_category_id": boxes.category_id,
            "object_id": boxes.object_id,
            "prompt_box": _lists(box_xyxy_to_xywh(boxes.xyxy)),
            "prompt_quad": _lists(boxes.quad),
            "rbox": _lists(rle.rotated_boxes(masks.counts, masks.size)),
            "score": boxes.score,
            "ignore": boxes.ignore,
            "track_id": boxes.track_id,
            "text": pa.array(boxes.text, pa.string()),
        }
    nulls = {field.name: pa.nulls(n, field.type) for field in MASKS}
    return pa.table({**nulls, **columns}, schema=MASKS)


def table_to_masks(table: pa.Table, size: tuple[int, int]) -> Masks:
    """Convert rows of masks/ to the masks of one image of ``size`` (H, W), px."""

    def rows(name: str, width: int) -> np.ndarray:
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, dtype=np.float32).reshape(-1, width)

    boxes = None
    # Stores of earlier versions lack the columns of boxes.
    if len(table) and "prompt_box" in table.column_names and not table["prompt_box"].null_count:
        boxes = Boxes(
            xyxy=box_xywh_to_xyxy(rows("prompt_box", 4)),
            quad=rows("prompt_quad", 8),
            category_id=table["source_category_id"].to_numpy(),
            object_id=table["object_id"].to_numpy(),
            ignore=table["ignore"].to_numpy(),
            score=table["score"].to_numpy(),
            track_id=table["track_id"].to_numpy(),
            text=tuple(table["text"].to_pylist()),
        )
    return Masks(
        size=size,
        counts=tuple(table["counts"].to_pylist()),
        xyxy=box_xywh_to_xyxy(rows("bbox", 4)),
        area=table["area"].to_numpy(),
        predicted_iou=table["predicted_iou"].to_numpy(),
        stability_score=table["stability_score"].to_numpy(),
        point_coords=rows("point_coords", 2),
        boxes=boxes,
    )


def _lists(rows: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
