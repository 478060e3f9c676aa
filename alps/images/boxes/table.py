"""Read images with a table of boxes (CSV or Parquet): one row per box, with the name of its image.

::

    image,x0,y0,x1,y1,category
    a/OSBS_029.png,203,67,227,90,tree

Columns: ``image``, the path of the image relative to the image folder, with or without suffix;
``x0 y0 x1 y1``, the corners of a horizontal box in pixels, or ``x0 y0`` to ``x3 y3``, the corners
of a rotated box; and optionally ``category`` (by default "object"), ``ignore`` (0 or 1), ``score``,
``text`` and ``counts`` (the ground-truth mask in COCO's compressed run-length encoding). Columns
with other names are ignored. Whitespace around names and values is stripped, and backslashes in
``image`` are read as /.
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

#: Class name for tables without the column ``category``.
OBJECT = "object"


class Table:
    """All images of a folder; images that are not in the table have no boxes.

    Args:
        root: folder of the dataset.
        images: folder of the images, relative to the root.
        annotations: the table, relative to the root.
        split: split of all images.
        classes: class names in the order of their ids. None: all names in the table, in
            alphabetical order.
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
            LabelError: the table cannot be read, or contains none of the images.
        """
        records, keys, classes = [], set(), digest([*self._classes])
        for record in Folder(str(Path(self.root, self.images)), self.name, self.split).records():
            path = f"{self.images}/{record.file_name}"
            record = replace(record, file_name=path)
            keys.add(self._key(record))
            annotations = digest(classes, self._content(record).digest)
            records.append(replace(record, annotations=annotations))
        unmatched = sorted(self._rows.keys() - keys)
        if unmatched and len(unmatched) == len(self._rows):
            raise LabelError(
                f"{self._path} contains none of the {len(records)} images under "
                f"{Path(self.root, self.images)}: the first image is {unmatched[0]!r} in the table "
                f"and {records[0].image_id!r} in the folder; write paths relative to the folder"
            )
        return records

    def findings(self) -> list[Finding]:
        """Return inconsistencies between the images and the rows."""
        records = self.records()
        audit = Audit(self._classes, SET_CLASSES)
        for record in records:
            content = self._content(record)
            audit.add(record.file_name, self.annotations, content.annotations, content.problems)
        unmatched = sorted(self._rows.keys() - {self._key(record) for record in records})
        missing = Finding(
            "missing_images",
            len(unmatched),
            f"{count_of(len(unmatched), len(self._rows), 'image')} in {self.annotations} are not "
            f"under {self.images}/ (first: {', '.join(unmatched[:1])})",
            "add them, or correct their paths in the table; until then they are skipped",
        )
        sidecars = Folder(str(Path(self.root, self.images)), self.name).findings()
        return [missing] * bool(unmatched) + sidecars + audit.findings()

    def read(self, record: ImageRecord) -> Sample:
        """Read image and boxes; raise `ImageError` if the image cannot be read."""
        pixels = read_pixels(Path(self.root, record.file_name))
        content = self._content(record)
        return make_sample(
            record, pixels, content.annotations, self._classes, self._path, content.problems
        )

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes(self._classes)

    @property
    def has_instances(self) -> bool:
        """Whether any row has a ground-truth mask."""
        rows = (a for content in self._rows.values() for a in content.annotations)
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
        return read_counts(self._content(record).annotations, boxes, size, self._path)

    @property
    def _path(self) -> Path:
        return Path(self.root, self.annotations)

    @cached_property
    def _rows(self) -> dict[str, FrameAnnotations]:
        """Annotations of each image, by the name in the table (with /, in NFC)."""
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
        """Class names: `classes` if given, else the names in the table, else only `OBJECT`."""
        names = {a.category for content in self._rows.values() for a in content.annotations}
        return self.classes or sorted(names) or [OBJECT]

    def _key(self, record: ImageRecord) -> str:
        """Return the name of an image in the table, its path with or without suffix."""
        path = to_nfc(record.file_name.removeprefix(f"{self.images}/"))
        return path if path in self._rows else to_nfc(record.image_id)

    def _content(self, record: ImageRecord) -> FrameAnnotations:
        """Return the annotations of an image."""
        return self._rows.get(self._key(record), FrameAnnotations())
