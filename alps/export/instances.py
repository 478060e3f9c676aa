"""The masks of a store with their classes, image by image, and which of them are exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, groupby

import numpy as np
from jaxtyping import Bool, Int
from tqdm import tqdm

from alps.store.label_store import LabelStore
from alps.store.labelled import labelled_images
from alps.structures.masks import Masks
from alps.structures.records import ImageRecord


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
    groups: Counter[str] = field(default_factory=Counter)  # what these make up: videos, tracks

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
    numbers = {r.image_id: n for n, r in enumerate(chain.from_iterable(store.plan), 1)}
    chosen = [sum(split in (None, r.split) for r in records) for records in store.plan]
    with tqdm(total=sum(chosen), desc=split or "images", unit="image", smoothing=0.1) as bar:
        for shard, n in enumerate(chosen):
            for image in labelled_images(store, shard) if n else ():
                if split in (None, image.record.split):
                    ignore, ids = np.zeros(len(image.masks), bool), image.category_id
                    if (boxes := image.masks.boxes) is not None:
                        ignore = boxes.ignore
                        ids = np.where(ignore & by_box, boxes.category_id, ids)
                    number = numbers[image.record.image_id]
                    yield Instances(number, image.record, image.masks, ids, ignore)
            bar.update(n)


def read_clips(
    store: LabelStore, split: str | None = None
) -> Iterator[tuple[str | None, Iterator[Instances]]]:
    """The frames of each video by its name; images that are of no video follow None.

    The plan keeps the frames of a video together, so each comes once.
    """
    return groupby(read_instances(store, split), key=lambda image: image.record.video_id)
