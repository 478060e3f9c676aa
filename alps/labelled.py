"""The images of a label store with their masks and classes, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from alps.store import ImageStatus, LabelStore
from alps.types import ImageRecord, Masks


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """An image of a store with its masks and their classes."""

    record: ImageRecord
    status: ImageStatus
    masks: Masks
    category_id: Int[np.ndarray, " N"]  # -1: unlabelled
    distance: Float32[np.ndarray, " N"]  # NaN where the recipe has none


def is_labelled(store: LabelStore) -> bool:
    """Whether the store's recipe gives classes to masks."""
    return "assign" in store.info.stages


def labelled_images(store: LabelStore, shard: int) -> Iterator[LabelledImage]:
    """The images of a shard that could be read; in a store without classes all masks have -1."""
    masks = store.masks(shard)
    n = sum(len(m) for m in masks.values())
    category_id, distance = (
        store.labels(shard)
        if is_labelled(store)
        else (np.full(n, -1, np.int32), np.full(n, np.nan, np.float32))
    )
    statuses = {status.image_id: status for status in store.images(shard)}
    start = 0
    for record in store.plan[shard]:
        if (m := masks.get(record.image_id)) is not None:
            rows = slice(start, start + len(m))
            yield LabelledImage(
                record, statuses[record.image_id], m, category_id[rows], distance[rows]
            )
            start = rows.stop
