"""Values of masks as the files of COCO and its kin write them."""

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
    """Of a frame of a video file the name that it has once this is cut into a folder of frames."""
    image = PurePosixPath(record.file_name).suffix.lower() in SUFFIXES
    return record.file_name if image else f"{record.image_id}.png"


def segmentation(masks: Masks, i: int) -> dict[str, Any]:
    """One mask, run-length encoded."""
    return {"size": [*masks.size], "counts": masks.counts[i].decode("ascii")}


def floats(values: Float32[np.ndarray, " n"]) -> list[float | None]:
    """In the fewest digits that mean the same float32; None, which JSON has, for NaN.

    >>> floats(np.array([0.1, 20, np.nan], np.float32))
    [0.1, 20.0, None]
    """
    return [None if np.isnan(value) else float(str(value)) for value in values]


def to_json(row: Mapping[str, Any]) -> str:
    """One line."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False)


def write_annotations(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    store: LabelStore,
    *,
    categories: Sequence[Mapping[str, Any]] | None = None,
    **lists: list[dict[str, Any]],
) -> None:
    """Write a file of COCO's kind: an annotation a line, and all else after them.

    Args:
        path: of the file.
        rows: the annotations; those without an id are numbered from 1.
        store: what the file is of.
        categories: the classes; None: those of the store.
        lists: "images" or "videos"; they may grow as long as there are rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        file.write('{"annotations":[')
        # From 1: COCO's scores take the id 0 for "nothing found".
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
