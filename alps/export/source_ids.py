"""Recover the ids of the COCO file that a store was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain

from alps.export.instances import Instances
from alps.store.label_store import LabelStore

Id = int | str


@dataclass(frozen=True, slots=True)
class SourceIds:
    """The ids of images, annotations and classes in an exported file.

    Ids of the source are kept if all images (or all annotations) have one and the ids are unique.
    Otherwise images and annotations are numbered from 1, because COCO's evaluation treats the id 0
    as an unmatched object.
    """

    images: bool  # whether the image ids of the source are kept
    annotations: bool  # whether the annotation ids of the source are kept
    categories: list[Id] | None  # source id by category id. None: the category ids of the store

    @classmethod
    def of(cls, store: LabelStore) -> SourceIds:
        """Determine which ids of the source of a store can be kept."""
        stages = store.info.stages
        by_box = stages["assign"]["identity"].get("assigner") == "category"
        prompted = "prompt" in stages["masks"]["identity"]
        images: list[Id] = []
        annotations: list[Id] = []
        complete = True
        for record in chain.from_iterable(store.plan):
            source = json.loads(record.source_ids or "{}")
            complete = complete and "image" in source
            images.append(source.get("image", -1))
            annotations += source.get("annotations", ())
        return cls(
            images=complete and len({*images}) == len(images),
            annotations=complete and prompted and len({*annotations}) == len(annotations),
            categories=store.info.images.get("category_ids") if by_box else None,
        )

    def image(self, image: Instances) -> Id:
        """Return the exported id of an image."""
        if not self.images:
            return image.number
        source: Id = json.loads(image.record.source_ids or "")["image"]
        return source

    def annotation(self, image: Instances, i: int) -> dict[str, Id]:
        """Return {"id": id} for the ``i``-th mask, or {} if annotations are numbered."""
        boxes = image.masks.boxes
        if not self.annotations or boxes is None:
            return {}
        source = json.loads(image.record.source_ids or "")["annotations"]
        return {"id": source[boxes.object_id[i]]}

    def category(self, category_id: int) -> Id:
        """Return the exported id of a class."""
        return self.categories[category_id] if self.categories else category_id
