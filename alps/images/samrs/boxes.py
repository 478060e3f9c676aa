"""Read the objects of SAMRS with box, category and mask (arXiv 2305.02034).

``ins/<image>.pkl`` is a pickled list with a dict per object, as ViTAE-Transformer/SAMRS writes it
(Generate Dataset/main_sam_hbox_semantic.py and main_sam_rhbox_semantic.py)::

    {"mask": {"size": [1024, 1024], "counts": "cRYf07fo…"}, "category": "small-vehicle",
     "label": 9, "size": 159, "bbox": array([714., 76., 726., 95.])}

``mask`` is in COCO's run-length encoding. Instead of ``bbox``, FAST has ``rhbox`` and the corners
``rbox`` (4, 2). The files are read by `alps.images.files.safe_pickle`, which executes no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alps.errors import ImageError
from alps.images.boxes.boxed import make_sample
from alps.images.files.audit import Audit, Occurrences, count_of
from alps.images.files.coco_masks import read_masks
from alps.images.files.limits import digest_files
from alps.images.files.read import read_pixels
from alps.images.files.safe_pickle import load_plain
from alps.images.samrs.labels import (
    CLASSES,
    check_subset,
    label_path,
    list_labelled,
    subset_categories,
)
from alps.structures.boxes import Annotation, Boxes
from alps.structures.findings import Finding
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord, Sample


class SamrsBoxes:
    """The images of one subset that have a file in ``ins/``, with the objects in these files.

    Use it to compare masks from box prompts with those published by SAMRS.

    Args:
        root: folder that contains the subset.
        subset: sota, sior or fast.
        name: name of the image set. None: the name of the subset followed by ``_boxes``.

    Raises:
        ConfigError: there is no such subset.
    """

    def __init__(self, *, root: str, subset: str, name: str | None = None) -> None:
        check_subset(subset)
        self.root = root
        self.subset = subset
        self.name = name or f"{subset}_boxes"

    def records(self) -> list[ImageRecord]:
        """Return all images with objects.

        Raises:
            DatasetNotFound: there are no images, or no image has objects.
        """
        records = list_labelled(self.root, self.subset, "ins", ".pkl")
        classes = CLASSES[self.subset]
        return [replace(r, annotations=digest_files([self._path(r)], classes)) for r in records]

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if one of their files cannot be read."""
        pixels = read_pixels(Path(self.root, record.file_name))
        path = self._path(record)
        rows = read_rows(path)
        annotations = [_annotation(i, row) for i, row in enumerate(rows)]
        classes = CLASSES[self.subset]
        return make_sample(record, pixels, annotations, classes, path, stated=_size_of_masks(rows))

    def findings(self) -> list[Finding]:
        """Return inconsistencies between images and objects; all files are read."""
        records = self.records()
        audit, unreadable = Audit(CLASSES[self.subset]), Occurrences()
        for record in tqdm(records, "checking annotations", unit="file", delay=1):
            path = self._path(record)
            file = path.relative_to(self.root).as_posix()
            try:
                rows = read_rows(path)
            except ImageError as error:
                unreadable.add(str(error).replace(f"{Path(self.root)}/", ""))
                continue
            audit.add(record.file_name, file, [_annotation(i, row) for i, row in enumerate(rows)])
            audit.add_size(
                Path(self.root, record.file_name), record.file_name, _size_of_masks(rows)
            )
        finding = Finding(
            "unreadable_annotations",
            unreadable.count,
            f"{count_of(unreadable.count, len(records), 'annotation file')} cannot be read "
            f"{unreadable}",
            "repair or remove them; until then their images are skipped",
        )
        return [finding] * bool(unreadable.count) + audit.findings()

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return subset_categories(self.subset)

    @property
    def has_instances(self) -> bool:
        """Always True: every object has a mask. Invalid masks are reported when they are read."""
        return True

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """Read the mask that SAMRS published for each box; invalid masks are logged and skipped.

        Args:
            record: the image.
            boxes: boxes returned by `read`, possibly a subset.
            size: (H, W) of the image, px.

        Returns:
            The masks with their boxes.

        Raises:
            ImageError: the file cannot be read.
        """
        path = self._path(record)
        rows = read_rows(path)
        shapes = [(f"{path} object {i}", _mask(rows[i])) for i in boxes.object_id]
        return read_masks(shapes, boxes, size)

    def _path(self, record: ImageRecord) -> Path:
        """Return the object file of an image."""
        return label_path(self.root, record, "ins", ".pkl")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file; raise `ImageError` if it cannot be read."""
    rows = load_plain(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ImageError(
            f"{path} contains a {type(rows).__name__}, expected a list with a dict per object; use "
            "the published file"
        )
    return rows


def _annotation(i: int, row: dict[str, Any]) -> Annotation:
    """Convert the object ``i`` of a file to an annotation."""
    box = row.get("bbox", row.get("rhbox", ()))
    quad, category = row.get("rbox"), row.get("category")
    return Annotation(
        f"object {i}",
        category if isinstance(category, str) else type(category).__name__,
        _numbers(box),
        quad=None if quad is None else _numbers(quad),
    )


def _size_of_masks(rows: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    """Return the (H, W) of the masks of a file, px; None if there are no masks or they differ."""
    sizes = {
        tuple(size)
        for row in rows
        if isinstance(mask := row.get("mask"), dict)
        and isinstance(size := mask.get("size"), list | tuple)
        and [type(side) for side in size] == [int, int]
    }
    return sizes.pop() if len(sizes) == 1 else None


def _mask(row: dict[str, Any]) -> Any:
    """Return the mask of an object; a missing mask becomes an invalid value to be reported."""
    mask = row.get("mask")
    return "nothing" if mask is None else mask


def _numbers(values: Any) -> list[float]:
    """Return the numbers of a box; NaN if they are malformed."""
    try:
        numbers = np.asarray(values, np.float64).ravel().tolist()
    except (TypeError, ValueError, OverflowError):
        numbers = [float("nan")] * 4
    return list(numbers)
