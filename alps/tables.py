"""The tables of a label store: their columns, and masks to rows and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alps.geometry import box_xywh_to_xyxy, box_xyxy_to_xywh
from alps.types import Masks

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
    ]
)


def masks_to_table(image_id: str, masks: Masks) -> pa.Table:
    """Rows of masks/, one per mask."""
    n = len(masks)
    bbox = box_xyxy_to_xywh(masks.xyxy)
    size = np.tile(np.asarray(masks.size, dtype=np.int32), n)
    return pa.table(
        [
            pa.array([image_id] * n, pa.string()),
            pa.array(np.arange(n, dtype=np.int32)),
            pa.FixedSizeListArray.from_arrays(pa.array(size), 2),
            pa.array(masks.counts, pa.binary()),
            pa.FixedSizeListArray.from_arrays(pa.array(bbox.ravel(), pa.float32()), 4),
            pa.array(masks.area, pa.int64()),
            pa.array(masks.predicted_iou, pa.float32()),
            pa.array(masks.stability_score, pa.float32()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(masks.point_coords.ravel(), pa.float32()), 2
            ),
        ],
        schema=MASKS,
    )


def table_to_masks(table: pa.Table, size: tuple[int, int]) -> Masks:
    """The masks of one image of ``size`` (H, W); `masks_to_table` undone."""

    def rows(name: str, width: int) -> np.ndarray:
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, dtype=np.float32).reshape(-1, width)

    return Masks(
        size=size,
        counts=tuple(table["counts"].to_pylist()),
        xyxy=box_xywh_to_xyxy(rows("bbox", 4)),
        area=table["area"].to_numpy(),
        predicted_iou=table["predicted_iou"].to_numpy(),
        stability_score=table["stability_score"].to_numpy(),
        point_coords=rows("point_coords", 2),
    )
