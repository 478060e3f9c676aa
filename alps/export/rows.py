"""Convert masks to the values of COCO and similar JSON formats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float32

from alps.images.files.read import SUFFIXES
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord


def file_name(record: ImageRecord) -> str:
    """Return the file name of an image; for a frame of a video file, <image id>.png."""
    image = PurePosixPath(record.file_name).suffix.lower() in SUFFIXES
    return record.file_name if image else f"{record.image_id}.png"


def segmentation(masks: Masks, i: int) -> dict[str, Any]:
    """Return the ``i``-th mask as COCO's compressed RLE."""
    return {"size": [*masks.size], "counts": masks.counts[i].decode("ascii")}


def floats(values: Float32[np.ndarray, " n"]) -> list[float | None]:
    """Convert float32 values to their shortest decimals, and NaN to None (null in JSON).

    >>> floats(np.array([0.1, 20, np.nan], np.float32))
    [0.1, 20.0, None]

    Returns:
        The values as Python floats.
    """
    return [None if np.isnan(value) else float(str(value)) for value in values]


def to_json(row: Mapping[str, Any]) -> str:
    """Encode a row as one line of JSON."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False)


def write_annotations(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    store: LabelStore,
    *,
    categories: Sequence[Mapping[str, Any]] | None = None,
    **lists: list[dict[str, Any]],
) -> None:
    """Write a COCO-style file: one annotation per line, followed by the other keys.

    Args:
        path: the file to write; its folder is created.
        rows: the annotations; an annotation without an id gets its position, from 1.
        store: the exported label store.
        categories: the classes. None: the classes of the store.
        **lists: "images" or "videos". They are written after the annotations, so the iteration of
            ``rows`` may append to them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        file.write('{"annotations":[')
        # From 1, because COCO's evaluation treats the id 0 as an unmatched object.
        for n, row in enumerate(rows, 1):
            file.write(",\n" if n > 1 else "\n")
            file.write(to_json({"id": n, **row}))
        tail = {
            **lists,
            "categories": categories or [asdict(category) for category in store.categories()],
            "info": {
                "description": f"{store.info.name}, made by ALPS {store.info.versions['alps']}"
            },
        }
        file.write(f"],\n{to_json(tail)[1:]}\n")
