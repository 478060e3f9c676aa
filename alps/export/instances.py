"""Read the masks of a store with their classes, image by image, and select masks to export."""

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
    """The masks of one image with their classes."""

    number: int  # position in the plan, from 1
    record: ImageRecord
    masks: Masks
    category_id: Int[np.ndarray, " N"]  # class of each mask; -1: unlabelled
    ignore: Bool[np.ndarray, " N"]  # whether the box of each mask is ignored


@dataclass(slots=True)
class Tally:
    """Numbers of exported and skipped images and masks."""

    images: int = 0
    masks: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # number of masks or images by reason
    groups: Counter[str] = field(default_factory=Counter)  # number of exported videos and tracks

    def select(self, image: Instances, reasons: Mapping[str, Bool[np.ndarray, " N"]]) -> Instances:
        """Return the image without the masks to skip, and update the numbers.

        Args:
            image: an image with all its masks.
            reasons: the masks to skip, by reason. A mask with several reasons is counted for the
                first one.

        Returns:
            The image with the remaining masks.
        """
        keep = np.ones(len(image.masks), bool)
        for reason, rows in reasons.items():
            self.skipped[reason] += int((keep & rows).sum())
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
    """Yield the labelled images of a store, with a progress bar; one shard is in memory at a time.

    If the classes are the categories of boxes, ignored boxes get their category, too, because
    formats with ignored objects require it.

    Args:
        store: a finished label store.
        split: the split to read. None: all splits.

    Yields:
        The images with their masks, in the order of the plan.
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
    """Group the images of a store by video; the plan keeps the frames of a video together.

    Args:
        store: a finished label store.
        split: the split to read. None: all splits.

    Returns:
        (video name, frames) of each video; the name is None for still images.
    """
    return groupby(read_instances(store, split), key=lambda image: image.record.video_id)
