"""The ids that a COCO file has for what a store was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain

from alps.export.instances import Instances
from alps.store.label_store import LabelStore

Id = int | str


@dataclass(frozen=True, slots=True)
class SourceIds:
    """How images, annotations and classes are called in an exported file.

    Ids of the source are kept where all of a kind have one, and no two the same; else they are
    counted, images and annotations from 1 (COCO's scores take the id 0 for "nothing found").
    """

    images: bool
    annotations: bool
    categories: list[Id] | None  # by class

    @classmethod
    def of(cls, store: LabelStore) -> SourceIds:
        """Find out which ids the source of a store has."""
        stages = store.info.stages
        by_box = stages["assign"]["identity"].get("assigner") == "category"
        prompted = "prompt" in stages["masks"]["identity"]
        images: list[Id] = []
        annotations: list[Id] = []
        known = True
        for record in chain.from_iterable(store.plan):
            source = json.loads(record.source_ids or "{}")
            known = known and "image" in source
            images.append(source.get("image", -1))
            annotations += source.get("annotations", ())
        return cls(
            images=known and len({*images}) == len(images),
            annotations=known and prompted and len({*annotations}) == len(annotations),
            categories=store.info.images.get("category_ids") if by_box else None,
        )

    def image(self, image: Instances) -> Id:
        """The id of an image."""
        if not self.images:
            return image.number
        source: Id = json.loads(image.record.source_ids or "")["image"]
        return source

    def annotation(self, image: Instances, i: int) -> dict[str, Id]:
        """The id of one of its masks; empty where it is to be counted."""
        boxes = image.masks.boxes
        if not self.annotations or boxes is None:
            return {}
        source = json.loads(image.record.source_ids or "")["annotations"]
        return {"id": source[boxes.object_id[i]]}

    def category(self, category_id: int) -> Id:
        """The id of a class."""
        return self.categories[category_id] if self.categories else category_id
