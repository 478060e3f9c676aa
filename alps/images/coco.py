"""Images with boxes in a COCO file (arXiv 1405.0312): one JSON for all images."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from alps.boxes import Annotation, Boxes, check_boxes
from alps.digest import digest
from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.annotation_file import LARGEST_OF_ALL, read_bytes
from alps.images.folder import contents
from alps.images.ids import image_ids
from alps.images.json_file import is_id, parse_json
from alps.images.read import read_pixels
from alps.images.segmentation import read_masks
from alps.palette import color_classes
from alps.types import Category, ImageRecord, Masks, Sample

logger = logging.getLogger(__name__)

#: The lists of a file, and what each of their entries must have.
KEYS: Mapping[str, Sequence[str]] = {
    "images": ("id", "file_name"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}


class Coco:
    """A folder of images and a COCO file with their boxes, and with their masks where it has them.

    Ids of categories are put in order and counted from 0; ``iscrowd`` objects are ignored.

    Args:
        root: folder of the dataset.
        images: folder of the images, below the root.
        annotations: the JSON file, below the root.
        split: the split all images belong to.
        name: what the image set is called.
    """

    def __init__(
        self,
        *,
        root: str,
        images: str = "images",
        annotations: str = "instances.json",
        split: str = "train",
        name: str = "coco",
    ) -> None:
        self.root = root
        self.images = images
        self.annotations = annotations
        self.split = split
        self.name = name

    def records(self) -> list[ImageRecord]:
        """All images of the file; one that is missing on disk fails when it is read.

        Raises:
            DatasetNotFound: there is no such file, or it lists no image.
            LabelError: it is no COCO file.
            ImageError: no image has a name that can be stored.
        """
        images = self._file["images"]
        if not images:
            raise DatasetNotFound(f"{self._path.absolute()} lists no images")
        ids = image_ids([PurePosixPath(image["file_name"]) for image in images])
        classes = digest([*self._names.items()])  # which id stands for which
        records, refused = [], []
        for image_id, image in zip(ids, images, strict=True):
            size = _bytes(Path(self.root, self.images, image["file_name"]))
            content = digest(classes, image, self._objects[image["id"]])
            objects = [o["id"] for o in self._objects[image["id"]]]
            name = f"{self.images}/{image['file_name']}"
            try:
                records.append(
                    ImageRecord(
                        *(image_id, name, self.split, size),
                        annotations=content,
                        source_ids=json.dumps({"image": image["id"], "annotations": objects}),
                    )
                )
            except ImageError as error:
                refused.append(error)
        if refused and not records:
            raise refused[0]
        if refused:
            logger.warning(
                "%d of %d images in %s are left out: their names cannot be stored (first: %s)",
                len(refused),
                len(images),
                self._path,
                refused[0],
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Image and boxes; raises `ImageError` when the image cannot be used."""
        pixels = read_pixels(Path(self.root, record.file_name))
        ids = {name: i for i, name in enumerate(self._names.values())}
        annotations = [
            Annotation(
                f"annotation {o['id']}",
                self._names.get(o["category_id"], str(o["category_id"])),
                _corners(o.get("bbox")),
                ignore=bool(o.get("iscrowd")) or bool(o.get("ignore")),
                score=_score(o.get("score")),
            )
            for o in self._objects[self._image_id(record)]
        ]
        boxes, dropped = check_boxes(annotations, ids, pixels.size)
        lines = tuple(f"{self._path.name} {line}" for line in dropped)
        return Sample(record.image_id, pixels.image, boxes, lines, pixels.valid)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        return color_classes([*self._names.values()])

    @property
    def category_ids(self) -> list[int]:
        """The file's ids of the classes, in their order."""
        return [*self._names]

    @property
    def has_instances(self) -> bool:
        """Whether any object has a true mask."""
        return any(annotation.get("segmentation") for annotation in self._file["annotations"])

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """The true masks of those boxes that have one; a bad one is told and left out.

        Args:
            record: the image.
            boxes: some of those that `read` gave.
            size: (H, W) of the image.
        """
        objects = self._objects[self._image_id(record)]
        own = [objects[i] for i in boxes.object_id]
        file = self._path.name
        shapes = [(f"{file} annotation {o['id']}", o.get("segmentation") or None) for o in own]
        return read_masks(shapes, boxes, size)

    @property
    def _path(self) -> Path:
        return Path(self.root, self.annotations)

    @cached_property
    def _file(self) -> dict[str, Any]:
        try:
            raw = parse_json(read_bytes(self._path, LARGEST_OF_ALL).decode())
        except FileNotFoundError:
            raise DatasetNotFound(
                f"no {self.annotations} under {Path(self.root).absolute()}: found "
                f"{contents(Path(self.root))}; give the COCO file as dataset.annotations"
            ) from None
        except (OSError, ValueError) as error:
            raise LabelError(f"cannot read {self._path}: {error}") from error
        lists = raw if isinstance(raw, dict) else {}
        if missing := [key for key in KEYS if not isinstance(lists.get(key), list)]:
            raise LabelError(
                f"{self._path} is no COCO file: it has no {' and no '.join(missing)}; expected the "
                "lists images, annotations and categories"
            )
        for key, names in KEYS.items():
            for i, entry in enumerate(lists[key]):
                self._check_entry(entry, f"{key}[{i}]", names)
        return dict(lists)

    def _check_entry(self, entry: Any, where: str, names: Sequence[str]) -> None:
        """Raise `LabelError` unless an entry has ids and names that can be such."""
        if not isinstance(entry, dict):
            raise LabelError(f"{self._path}: {where} is no object, expected {', '.join(names)}")
        if missing := [name for name in names if name not in entry]:
            raise LabelError(f"{self._path}: {where} has no {' and no '.join(missing)}")
        for name in names:
            value = entry[name]
            named = (
                isinstance(value, str)
                and value.isprintable()
                and bool(PurePosixPath(value).name)
                and len(value) <= 500
            )
            if not (named if "name" in name else is_id(value)):
                raise LabelError(
                    f"{self._path}: {name} of {where} is {str(value)[:60]!r}, expected "
                    + ("text of 500 letters at most" if "name" in name else "a whole number")
                )

    @cached_property
    def _names(self) -> dict[int, str]:
        """By the file's ids, in their order."""
        listed = sorted(self._file["categories"], key=_order)
        return {c["id"]: c["name"] for c in listed}

    @cached_property
    def _objects(self) -> dict[int, list[dict[str, Any]]]:
        """By the file's image ids."""
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self._file["annotations"]:
            found[annotation["image_id"]].append(annotation)
        return found

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {
            f"{self.images}/{image['file_name']}": image["id"] for image in self._file["images"]
        }

    def _image_id(self, record: ImageRecord) -> int:
        return self._ids[record.file_name]


def _bytes(file: Path) -> int:
    """0 where there is no such file; reading it will say so."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _score(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) <= 1e30 else None


def _order(category: Mapping[str, Any]) -> tuple[bool, int, str]:
    """By number, though some files have them as words; other words come last."""
    word = str(category["id"])
    number = re.fullmatch(r"-?\d{1,18}", word)
    return number is None, int(word) if number else 0, word


def _corners(bbox: Any) -> list[float]:
    """XYWH to corners; what is no four numbers is told when the box is checked."""
    try:
        values = [float(value) for value in bbox]
    except (TypeError, ValueError, OverflowError):
        return []
    if len(values) != 4:
        return values
    x, y, width, height = values
    return [x, y, x + width, y + height]
