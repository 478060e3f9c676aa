"""Access to the images of a label store with their masks and classes, by shard or by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32, Int

from alps.store.label_store import ImageStatus, LabelStore
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


class StoredImages:
    """Masks and features by image; fast if images are requested in the order of the plan."""

    def __init__(self, store: LabelStore) -> None:
        self.store = store
        self._shard_of = {r.image_id: i for i, shard in enumerate(store.plan) for r in shard}
        self._read: tuple[int, dict[str, Masks]] = (-1, {})

    def masks(self, image_id: str) -> Masks | None:
        """Return the masks of an image; None if the store lacks it or failed to read it."""
        shard = self._shard_of.get(image_id)
        return None if shard is None else self._masks(shard).get(image_id)

    def features(self, image_id: str) -> Float16[np.ndarray, "N C"] | None:
        """Return the features of an image, one row per mask; None if the store lacks the image."""
        shard = self._shard_of.get(image_id)
        start = 0
        for other, masks in self._masks(shard).items() if shard is not None else ():
            if other == image_id:
                return self.store.features(self._shard_of[image_id])[start : start + len(masks)]
            start += len(masks)
        return None

    def _masks(self, shard: int) -> dict[str, Masks]:
        if self._read[0] != shard:
            self._read = (shard, self.store.masks(shard))
        return self._read[1]
