"""Read images with boxes in a COCO file (arXiv 1405.0312): one JSON for all images."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from alps.errors import ConfigError, DatasetNotFound, ImageError, LabelError
from alps.images.boxes.coco_file import (
    CocoFile,
    Entry,
    read_coco,
    stated_size,
    to_annotation,
    to_id,
)
from alps.images.files.audit import Audit, Occurrences, count_of
from alps.images.files.coco_masks import read_masks
from alps.images.files.header import compare_sizes
from alps.images.files.ids import image_ids, to_nfc
from alps.images.files.listing import contents, walk
from alps.images.files.read import read_pixels
from alps.rasters.gdal import RASTER_SUFFIXES
from alps.rasters.sidecars import find_sidecars
from alps.structures.boxes import Annotation, Boxes, check_boxes
from alps.structures.digest import digest
from alps.structures.findings import Finding
from alps.structures.masks import Masks
from alps.structures.palette import color_classes
from alps.structures.records import INVALID_PATH, Category, ImageRecord, Sample

logger = logging.getLogger(__name__)


class Coco:
    """A folder of images and a COCO file with their boxes and, where present, masks.

    Category ids are sorted and renumbered from 0. If two entries name the same file, it gets the
    annotations of both. If the size stated in an entry differs from the size of the image file, the
    annotations of the entry are dropped.

    Args:
        root: folder of the dataset.
        images: folder of the images, relative to the root.
        annotations: the JSON file, relative to the root.
        split: split of all images.
        ignore_crowd: ignore objects with ``iscrowd``. Set it to False if the file comes from a tool
            that sets ``iscrowd`` for every run-length mask.
        name: name of the image set.

    Raises:
        ConfigError: ``ignore_crowd`` is not a boolean.
    """

    def __init__(
        self,
        *,
        root: str,
        images: str = "images",
        annotations: str = "instances.json",
        split: str = "train",
        ignore_crowd: bool = True,
        name: str = "coco",
    ) -> None:
        if not isinstance(ignore_crowd, bool):
            raise ConfigError(f"dataset.ignore_crowd={ignore_crowd}: expected true or false")
        self.root = root
        self.images = images
        self.annotations = annotations
        self.split = split
        self.ignore_crowd = ignore_crowd
        self.name = name

    def records(self) -> list[ImageRecord]:
        """Return all images that the file lists; `read` raises an error for those not on disk.

        Raises:
            DatasetNotFound: the file is missing, or lists no image.
            LabelError: the file is not a COCO file.
            ImageError: none of the image names can be stored.
        """
        images = self._images
        if not images:
            raise DatasetNotFound(f"{self._path.absolute()} lists no images")
        ids = image_ids([PurePosixPath(name) for name in images])
        classes = digest([*self._file.names.items()])  # the ids and what they mean
        records, refused = [], []
        for image_id, (relative, entries) in zip(ids, images.items(), strict=True):
            name = f"{self.images}/{relative}"
            objects = [o for entry in entries for o in self._objects(entry)]
            try:
                records.append(
                    ImageRecord(
                        *(image_id, name, self.split, _bytes(Path(self.root, name))),
                        annotations=digest(classes, entries, objects),
                        source_ids=_source_ids(entries, objects),
                    )
                )
            except ImageError as error:
                refused.append(error)
        if refused and not records:
            raise refused[0]
        if refused:
            logger.warning(
                "%d of %d images in %s are skipped: their names cannot be stored (first: %s)",
                len(refused),
                len(images),
                self._path,
                refused[0],
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if the image cannot be read."""
        pixels = read_pixels(Path(self.root, record.file_name))
        size = pixels.size
        name = PurePosixPath(record.file_name).name
        kept_ids, annotations, problems = [], list[Annotation](), list[str]()
        n = 0  # number of objects of earlier entries
        for entry in self._entries(record):
            objects = self._objects(entry)
            if problem := compare_sizes(name, size, stated_size(entry)):
                problems += [problem] * len(objects)
            else:
                for i, o in enumerate(objects, n):
                    annotation = to_annotation(o, self._file.names)
                    if isinstance(annotation, str):
                        problems.append(annotation)
                    else:
                        kept_ids.append(i)
                        annotations.append(annotation)
            n += len(objects)
        ids = {name: i for i, name in enumerate(self._file.names.values())}
        boxes, dropped = check_boxes(annotations, ids, size)
        boxes = replace(boxes, object_id=np.array(kept_ids, np.int32)[boxes.object_id])
        file = self._path.name
        dropped = [f"{file} {line}" for line in (*problems, *dropped)]
        return Sample(
            image_id=record.image_id,
            image=pixels.image,
            boxes=boxes,
            dropped=tuple(dropped),
            valid=pixels.valid,
            georeference=pixels.georeference,
        )

    def findings(self) -> list[Finding]:
        """Return inconsistencies; reads the header of each image whose entry states a size."""
        audit = Audit(
            [*self._file.names.values()],
            ignored_remedy="some tools set iscrowd for every run-length mask; if the objects are "
            "not crowds, label with dataset.ignore_crowd=false",
        )
        file, missing, other_normalisation = self._path.name, Occurrences(), Occurrences()
        for relative, entries in self._images.items():
            name = f"{self.images}/{relative}"
            objects = [o for entry in entries for o in self._objects(entry)]
            converted = [to_annotation(o, self._file.names) for o in objects]
            audit.add(
                name,
                file,
                [a for a in converted if isinstance(a, Annotation)],
                [line for line in converted if isinstance(line, str)],
            )
            path = Path(self.root, name)
            if not _is_file(path):
                missing.add(name)
            elif all(relative not in entry["file_name"] for entry in entries):
                other_normalisation.add(relative)
            for entry in entries:
                audit.add_size(path, name, stated_size(entry))
        n = len(self._images)
        relations = [
            Finding(
                "missing_images",
                missing.count,
                f"{count_of(missing.count, n, 'image')} of {file} are missing {missing}",
                "add them, or set dataset.images to their folder; until then they are skipped",
            ),
            *self._file.findings,
            Finding(
                "normalisation",
                other_normalisation.count,
                f"{count_of(other_normalisation.count, n, 'file name')} in {file} differ from the "
                f"files in Unicode normalisation (NFC or NFD) {other_normalisation}",
                "rename the files if other tools need them; ALPS treats both forms as equal",
            ),
        ]
        if any(name.lower().endswith(RASTER_SUFFIXES) for name in self._images):
            relations += find_sidecars(self._by_nfc_name.values())
        return [finding for finding in relations if finding.count] + audit.findings()

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value. Raise `LabelError` if there are none."""
        if not self._file.names:
            raise LabelError(
                f"{self._path} lists no categories, so its boxes have no classes; add a list "
                '"categories" with the id and name of each class'
            )
        return color_classes([*self._file.names.values()])

    @property
    def category_ids(self) -> list[int | str]:
        """Category ids of the file, in the order of the classes."""
        return [*self._file.names]

    @property
    def has_instances(self) -> bool:
        """Whether any object has a ground-truth mask."""
        objects = (o for group in self._file.objects.values() for o in group)
        return any(o.get("segmentation") for o in objects)

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """Read the ground-truth masks of the boxes that have one; log and skip invalid ones.

        Args:
            record: the image.
            boxes: boxes returned by `read`, possibly a subset.
            size: (H, W) of the image, px.

        Returns:
            The masks with their boxes.
        """
        objects = [o for entry in self._entries(record) for o in self._objects(entry)]
        selected = [objects[i] for i in boxes.object_id]
        file = self._path.name
        shapes = [(f"{file} {o['where']}", o.get("segmentation") or None) for o in selected]
        return read_masks(shapes, boxes, size)

    @property
    def _path(self) -> Path:
        return Path(self.root, self.annotations)

    @cached_property
    def _file(self) -> CocoFile:
        """The parsed COCO file."""
        try:
            return read_coco(self._path)
        except FileNotFoundError:
            raise DatasetNotFound(
                f"no {self.annotations} under {Path(self.root).absolute()}: found "
                f"{contents(Path(self.root))}; set dataset.annotations to the COCO file"
            ) from None

    @cached_property
    def _images(self) -> dict[str, list[Entry]]:
        """Entries of each image (usually one), by its path relative to the image folder."""
        entries = defaultdict[str, list[Entry]](list)
        for entry in self._file.images:
            entries[self._locate(entry["file_name"])].append(entry)
        return entries

    def _locate(self, name: str) -> str:
        """Return the path of an image relative to the image folder.

        Some tools write paths relative to the image folder, others relative to its parent, and file
        systems may change the Unicode normalisation. If there is no such file, the name is returned
        unchanged.
        """
        relative = name.removeprefix(f"{self.images}/")
        for path in (name, relative):
            if INVALID_PATH.search(path) or _is_file(Path(self.root, self.images, path)):
                return path
        by_name = self._by_nfc_name
        return by_name.get(to_nfc(name), by_name.get(to_nfc(relative), name))

    @cached_property
    def _by_nfc_name(self) -> dict[str, str]:
        """Files below the image folder, by their name in NFC."""
        folder = Path(self.root, self.images)
        return {to_nfc(path): path for path, _ in walk(folder)} if folder.is_dir() else {}

    def _entries(self, record: ImageRecord) -> list[Entry]:
        """Return the entries of an image."""
        return self._images[record.file_name.removeprefix(f"{self.images}/")]

    def _objects(self, image: Entry) -> Sequence[Entry]:
        """Return the objects of an entry; if ``ignore_crowd`` is False, ``iscrowd`` is set to 0."""
        objects = self._file.objects.get(image["id"], ())
        return objects if self.ignore_crowd else [{**o, "iscrowd": 0} for o in objects]


def _source_ids(entries: Sequence[Entry], objects: Sequence[Entry]) -> str:
    """Return the ids of an image and its objects as JSON; missing or ambiguous ids are omitted."""
    ids: dict[str, Any] = {"image": entries[0]["id"]} if len(entries) == 1 else {}
    annotations = [to_id(o.get("id")) for o in objects]
    if all(object_id is not None for object_id in annotations):
        ids["annotations"] = annotations
    return json.dumps(ids)


def _bytes(file: Path) -> int:
    """Return the size of a file in bytes; 0 if it is missing, which `read` reports."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _is_file(path: Path) -> bool:
    """Return whether a path is a file; False for a name that the file system does not allow."""
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False
