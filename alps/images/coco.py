"""Images with boxes in a COCO file (arXiv 1405.0312): one JSON for all images."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco

from alps import rle
from alps.boxes import Annotation, Boxes, check_boxes
from alps.errors import DatasetNotFound, LabelError
from alps.images.folder import contents
from alps.images.ids import image_ids
from alps.images.read import read_image
from alps.images.rows import report_masks
from alps.palette import distinct_colors
from alps.types import Category, ImageRecord, Masks, Sample


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
        """
        images = self._file["images"]
        if not images:
            raise DatasetNotFound(f"{self._path.absolute()} lists no images")
        ids = image_ids([PurePosixPath(image["file_name"]) for image in images])
        records = []
        for image_id, image in zip(ids, images, strict=True):
            file = Path(self.root, self.images, image["file_name"])
            size = file.stat().st_size if file.is_file() else 0
            boxes = zlib.crc32(json.dumps(self._objects[image["id"]], sort_keys=True).encode())
            name = f"{self.images}/{image['file_name']}"
            records.append(
                ImageRecord(image_id, name, self.split, size, annotations=f"{boxes:08x}")
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Image and boxes; raises `ImageError` when the image cannot be used."""
        image = read_image(Path(self.root, record.file_name))
        ids = {name: i for i, name in enumerate(self._names.values())}
        annotations = [
            Annotation(
                f"annotation {o['id']}",
                self._names.get(o["category_id"], str(o["category_id"])),
                _corners(o.get("bbox")),
                ignore=bool(o.get("iscrowd")) or bool(o.get("ignore")),
                score=o.get("score"),
            )
            for o in self._objects[self._image_id(record)]
        ]
        boxes, dropped = check_boxes(annotations, ids, (image.shape[0], image.shape[1]))
        lines = tuple(f"{self._path.name} {line}" for line in dropped)
        return Sample(record.image_id, image, boxes, lines)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        colors = distinct_colors(len(self._names))
        pairs = zip(self._names.values(), colors, strict=True)
        return [Category(i, *both) for i, both in enumerate(pairs)]

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
        kept, counts, problems = [], [], []
        for place, i in enumerate(boxes.object_id):
            if shape := objects[i].get("segmentation"):
                code, problem = _to_counts(shape, size)
                if problem:
                    problems.append(f"{self._path.name} annotation {objects[i]['id']}: {problem}")
                else:
                    kept.append(place)
                    counts.append(code)
        report_masks(problems)
        return Masks.from_counts(counts, size, boxes=boxes[np.array(kept, np.int64)])

    @property
    def _path(self) -> Path:
        return Path(self.root, self.annotations)

    @cached_property
    def _file(self) -> dict[str, Any]:
        try:
            raw = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DatasetNotFound(
                f"no {self.annotations} under {Path(self.root).absolute()}: found "
                f"{contents(Path(self.root))}; give the COCO file as dataset.annotations"
            ) from None
        except (OSError, ValueError) as error:
            raise LabelError(f"cannot read {self._path}: {error}") from error
        if missing := [key for key in ("images", "annotations", "categories") if key not in raw]:
            raise LabelError(
                f"{self._path} is no COCO file: it has no {' and no '.join(missing)}; expected the "
                "lists images, annotations and categories"
            )
        return dict(raw)

    @cached_property
    def _names(self) -> dict[int, str]:
        """By the file's ids, in their order."""
        listed = sorted(self._file["categories"], key=lambda c: int(c["id"]))
        return {c["id"]: c["name"] for c in listed}

    @cached_property
    def _objects(self) -> dict[int, list[dict[str, Any]]]:
        """By the file's image ids."""
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in self._file["annotations"]:
            if missing := {"id", "image_id", "category_id"} - annotation.keys():
                raise LabelError(
                    f"{self._path}: annotation {annotation.get('id')} has no "
                    f"{' and no '.join(sorted(missing))}"
                )
            found[annotation["image_id"]].append(annotation)
        return found

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {
            f"{self.images}/{image['file_name']}": image["id"] for image in self._file["images"]
        }

    def _image_id(self, record: ImageRecord) -> int:
        return self._ids[record.file_name]


def _to_counts(shape: Any, size: tuple[int, int]) -> tuple[bytes, str]:
    """Polygons, plain counts or compressed ones as compressed ones, and what is wrong with them."""
    try:
        if isinstance(shape, list):
            polygons = [[float(value) for value in polygon] for polygon in shape]
            far = 2 * max(size)  # pycocotools walks along every side
            if any(len(p) < 6 or len(p) % 2 or not (np.abs(p) < far).all() for p in polygons):
                return b"", "expected polygons of three corners x y or more, in pixels of the image"
            return coco.merge(coco.frPyObjects(polygons, *size))["counts"], ""
        if isinstance(shape["counts"], str):
            counts = shape["counts"].encode()
        else:
            runs = [int(run) for run in shape["counts"]]
            if min(runs) < 0 or sum(runs) != size[0] * size[1]:
                raise ValueError("they are of another size")
            counts = coco.frPyObjects({"size": [*size], "counts": runs}, *size)["counts"]
    except (TypeError, ValueError, KeyError):
        return b"", "expected polygons or COCO run-length code of the image's size"
    return counts, rle.find_problem(counts, size)


def _corners(bbox: Any) -> list[float]:
    """XYWH to corners; what is no four numbers is told when the box is checked."""
    try:
        values = [float(value) for value in bbox]
    except (TypeError, ValueError):
        return []
    if len(values) != 4:
        return values
    x, y, width, height = values
    return [x, y, x + width, y + height]
