"""The masks of a store with their classes, image by image, and which of them are exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int
from tqdm import tqdm

from alps.store import LabelStore
from alps.types import ImageRecord, Masks


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """One image."""

    number: int  # from 1, in the order of the plan
    record: ImageRecord
    masks: Masks
    category_id: Int[np.ndarray, " N"]  # -1: unlabelled
    ignore: Bool[np.ndarray, " N"]


@dataclass(slots=True)
class Tally:
    """What was exported."""

    images: int = 0
    masks: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # masks by the reason

    def take(self, image: Instances, reasons: Mapping[str, Bool[np.ndarray, " N"]]) -> Instances:
        """Leave out the masks that ``reasons`` name, and count.

        Args:
            image: all its masks.
            reasons: the masks to leave out by the reason; the first one counts.
        """
        keep = np.ones(len(image.masks), bool)
        for reason, rows in reasons.items():
            self.left_out[reason] += int((keep & rows).sum())
            keep &= ~rows
        self.images += 1
        self.masks += int(keep.sum())
        return Instances(
            number=image.number,
            record=image.record,
            masks=image.masks[keep],
            category_id=image.category_id[keep],
            ignore=image.ignore[keep],
        )


def read_instances(store: LabelStore, split: str | None = None) -> Iterator[Instances]:
    """The images that could be read, with a progress bar; a shard lies in memory at a time.

    Where classes are those of the boxes, an ignored box has its category here: formats that know
    ignored objects want it.

    Args:
        store: a finished one.
        split: None: all of them.
    """
    by_box = store.info.stages["assign"]["identity"].get("assigner") == "category"
    chosen = [[split in (None, record.split) for record in records] for records in store.plan]
    number = 0
    with tqdm(
        total=sum(map(sum, chosen)), desc=split or "images", unit="image", smoothing=0.1
    ) as bar:
        for shard, (records, wanted) in enumerate(zip(store.plan, chosen, strict=True)):
            if not any(wanted):
                number += len(records)
                continue
            masks, (category_id, _) = store.masks(shard), store.labels(shard)
            start = 0
            for record, want in zip(records, wanted, strict=True):
                number += 1
                bar.update(want)
                if (found := masks.get(record.image_id)) is None:
                    continue
                ids = category_id[start : start + len(found)]
                start += len(found)
                ignore = np.zeros(len(found), bool)
                if found.boxes is not None:
                    ignore = found.boxes.ignore
                    ids = np.where(ignore & by_box, found.boxes.category_id, ids)
                if want:
                    yield Instances(number, record, found, ids, ignore)
