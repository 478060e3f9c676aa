"""Iterate over the images of a label store with their masks and classes, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """An image of a store with its masks and their classes."""

    record: ImageRecord
    status: ImageStatus
    masks: Masks
    category_id: Int[np.ndarray, " N"]  # -1: unlabelled
    distance: Float32[np.ndarray, " N"]  # NaN where the recipe has none


def is_labelled(store: LabelStore) -> bool:
    """Return whether the recipe of a store assigns classes to masks."""
    return "assign" in store.info.stages


def labelled_images(store: LabelStore, shard: int) -> Iterator[LabelledImage]:
    """Iterate over the readable images of a shard; without an assign stage all classes are -1."""
    masks = store.shard(shard).masks()
    n = sum(len(m) for m in masks.values())
    category_id, distance = (
        store.shard(shard).labels()
        if is_labelled(store)
        else (np.full(n, -1, np.int32), np.full(n, np.nan, np.float32))
    )
    statuses = {status.image_id: status for status in store.shard(shard).images()}
    start = 0
    for record in store.plan[shard]:
        if (m := masks.get(record.image_id)) is not None:
            rows = slice(start, start + len(m))
            yield LabelledImage(
                record, statuses[record.image_id], m, category_id[rows], distance[rows]
            )
            start = rows.stop
