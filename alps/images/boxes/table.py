"""Read images with a table of boxes (CSV or Parquet): one row per box, with its image by name.

::

    image,x0,y0,x1,y1,category
    a/OSBS_029.png,203,67,227,90,tree

Columns: ``image``, its path relative to the image folder, with or without the suffix;
``x0 y0 x1 y1``, the corners of a horizontal box in pixels, or ``x0 y0`` to ``x3 y3``, those of a
rotated one; and optionally ``category`` (by default all boxes are of the class "object"),
``ignore`` (0 or 1), ``score``, ``text`` and ``counts``, the ground-truth mask in COCO's compressed
run-length encoding. Other columns are ignored. Whitespace around names and values is stripped, and
backslashes in ``image`` are read as /.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from alps.errors import DatasetNotFound, LabelError
from alps.images.boxes.boxed import make_sample
from alps.images.files.audit import SET_CLASSES, Audit, count_of
from alps.images.files.box_rows import read_counts, read_rows, row_to_annotation
from alps.images.files.fields import check_classes
from alps.images.files.ids import to_nfc
from alps.images.files.listing import contents
from alps.images.files.read import read_pixels
from alps.images.plain.folder import Folder
from alps.structures.boxes import Boxes, FrameAnnotations
from alps.structures.digest import digest
from alps.structures.findings import Finding
from alps.structures.masks import Masks
from alps.structures.palette import color_classes
from alps.structures.records import Category, ImageRecord, Sample

#: The class of tables without categories.
OBJECT = "object"


class Table:
    """All images of a folder; images that the table does not name have no boxes.

    Args:
        root: folder of the dataset.
        images: folder of the images, relative to the root.
        annotations: the table, relative to the root.
        split: split of all images.
        classes: class names in the order of their ids. None: those that occur, in alphabetical
            order.
        name: name of the image set.

    Raises:
        ConfigError: ``classes`` is not a list of distinct names.
    """

    def __init__(
        self,
        *,
        root: str,
        images: str = "images",
        annotations: str = "boxes.csv",
        split: str = "train",
        classes: Sequence[str] | None = None,
        name: str = "table",
    ) -> None:
        self.root = root
        self.images = images
        self.annotations = annotations
        self.split = split
        self.classes = check_classes(classes)
        self.name = name

    def records(self) -> list[ImageRecord]:
        """Return all images of the folder.

        Raises:
            DatasetNotFound: there is no table, or no image.
            LabelError: the table cannot be used, or names none of the images.
        """
        records, keys, classes = [], set(), digest([*self._classes])
        for record in Folder(str(Path(self.root, self.images)), self.name, self.split).records():
            path = f"{self.images}/{record.file_name}"
            record = replace(record, file_name=path)
            keys.add(self._key(record))
            content = digest(classes, self._marks(record).digest)
            records.append(replace(record, annotations=content))
        unmatched = sorted(self._rows.keys() - keys)
        if unmatched and len(unmatched) == len(self._rows):
            raise LabelError(
                f"{self._path} names none of the {len(records)} images under "
                f"{Path(self.root, self.images)}: the first is {unmatched[0]!r} there and "
                f"{records[0].image_id!r} here; write paths relative to that folder"
            )
        return records

    def findings(self) -> list[Finding]:
        """Return inconsistencies between the images and the rows."""
        records = self.records()
        audit = Audit(self._classes, SET_CLASSES)
        for record in records:
            marks = self._marks(record)
            audit.add(record.file_name, self.annotations, marks.annotations, marks.problems)
        unmatched = sorted(self._rows.keys() - {self._key(record) for record in records})
        missing = Finding(
            "missing_images",
            len(unmatched),
            f"{count_of(len(unmatched), len(self._rows), 'image')} in {self.annotations} are not "
            f"under {self.images}/ (first: {', '.join(unmatched[:1])})",
            "get them, or correct their paths in the table; the others are used",
        )
        sidecars = Folder(str(Path(self.root, self.images)), self.name).findings()
        return [missing] * bool(unmatched) + sidecars + audit.findings()

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if the image cannot be used."""
        pixels = read_pixels(Path(self.root, record.file_name))
        marks = self._marks(record)
        return make_sample(
            record, pixels, marks.annotations, self._classes, self._path, marks.problems
        )

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes(self._classes)

    @property
    def has_instances(self) -> bool:
        """Whether any row has a ground-truth mask."""
        rows = (a for marks in self._rows.values() for a in marks.annotations)
        return any(annotation.counts for annotation in rows)

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """Read the ground-truth masks of the boxes that have one; log and skip invalid ones.

        Args:
            record: the image.
            boxes: boxes returned by `read`, possibly a subset.
            size: (H, W) of the image, px.

        Returns:
            The masks with their boxes.
        """
        return read_counts(self._marks(record).annotations, boxes, size, self._path)

    @property
    def _path(self) -> Path:
        return Path(self.root, self.annotations)

    @cached_property
    def _rows(self) -> dict[str, FrameAnnotations]:
        """Annotations of each image, by its name in the table, with / and in NFC."""
        if not self._path.is_file():
            raise DatasetNotFound(
                f"no {self.annotations} under {Path(self.root).absolute()}: found "
                f"{contents(Path(self.root))}; set dataset.annotations to the CSV or Parquet file"
            )
        by_image: defaultdict[str, FrameAnnotations] = defaultdict(FrameAnnotations)
        for i, row in enumerate(read_rows(self._path, ["image"]), 1):
            image = to_nfc(row["image"].replace("\\", "/")).removeprefix("./")
            by_image[image].add(row_to_annotation(row, f"row {i}", OBJECT))
        return dict(by_image)

    @cached_property
    def _classes(self) -> Sequence[str]:
        """Class names: the requested ones, those in the table, or `OBJECT` alone."""
        names = {a.category for marks in self._rows.values() for a in marks.annotations}
        return self.classes or sorted(names) or [OBJECT]

    def _key(self, record: ImageRecord) -> str:
        """Return the name of an image in the table: its path with or without the suffix."""
        path = to_nfc(record.file_name.removeprefix(f"{self.images}/"))
        return path if path in self._rows else to_nfc(record.image_id)

    def _marks(self, record: ImageRecord) -> FrameAnnotations:
        """Return the annotations of an image."""
        return self._rows.get(self._key(record), FrameAnnotations())
