"""Read DIOR and DIOR-R: aerial images with horizontal and oriented boxes.

The 23,463 images (Li et al., arXiv 1909.00133) have two annotation files each, XML files similar to
Pascal VOC's. The same object of 00001.xml in ``Horizontal Bounding Boxes/`` and in ``Oriented
Bounding Boxes/`` (Cheng et al., arXiv 2110.01931; corners as read by open-mmlab/mmrotate,
mmrotate/datasets/dior.py)::

    <object><name>golffield</name>
      <bndbox><xmin>133</xmin><ymin>237</ymin><xmax>684</xmax><ymax>672</ymax></bndbox></object>

    <object><type>robndbox</type><name>golffield</name><difficult>0</difficult>
      <robndbox><x_left_top>133</x_left_top><y_left_top>237</y_left_top>
        <x_right_top>684</x_right_top> … <y_left_bottom>672</y_left_bottom></robndbox>
      <angle>0</angle></object>

Coordinates are used unchanged, as pixel edges: they are equal in both kinds of files, and SAMRS
(ViTAE-Transformer/SAMRS, Generate Dataset/loaddata.py) uses them unchanged, too. According to
SAMRS, some horizontal boxes are named ``<robndbox>``, and some oriented files have a ``<bndbox>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from alps.errors import ConfigError, DatasetNotFound
from alps.images.boxes.boxed import AnnotatedFolder, Annotations, BoxedFolders, BoxedImages
from alps.images.boxes.voc import EDGES, SIZE
from alps.images.files.fields import read_splits
from alps.images.files.listing import contents
from alps.images.files.xml_file import (
    describe_flag,
    is_difficult,
    plain,
    read_xml,
    stated_size,
    text,
    values,
)
from alps.structures.boxes import Annotation

URL = "https://gcheng-nwpu.github.io/#Datasets"
#: Class names in the order of SIOR's pixel values (SAMRS, arXiv 2305.02034).
CLASSES = (
    *("airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney"),
    *("expressway-service-area", "expressway-toll-station", "dam", "golffield"),
    *("groundtrackfield", "harbor", "overpass", "ship", "stadium", "storagetank"),
    *("tenniscourt", "trainstation", "vehicle", "windmill"),
)
#: Folders of images, each with the split of its images that are in no list.
IMAGES: Mapping[str, str] = {"JPEGImages-trainval": "train", "JPEGImages-test": "test"}
#: Folders of annotations.
BOXES: Mapping[str, str] = {
    "horizontal": "Annotations/Horizontal Bounding Boxes",
    "oriented": "Annotations/Oriented Bounding Boxes",
}
CORNERS = tuple(
    f"{axis}_{corner}"
    for corner in ("left_top", "right_top", "right_bottom", "left_bottom")
    for axis in "xy"
)
_NAMES = {plain(name): name for name in CLASSES}


class Dior(BoxedImages):
    """DIOR in ``JPEGImages-trainval/``, ``JPEGImages-test/`` and ``Annotations/`` below the root.

    Splits come from the lists in ``ImageSets/Main/``; without lists, they are train and test. If an
    image has horizontal and oriented boxes of the same objects, both are used: the oriented box
    gives the corners of the horizontal one. If the objects differ, only the oriented boxes are
    used.

    Args:
        root: folder of the dataset.
        boxes: "horizontal" or "oriented" to use only these boxes. None: both, if they exist.
        name: name of the image set.

    Raises:
        ConfigError: ``boxes`` has another value.
    """

    def __init__(self, *, root: str, boxes: str | None = None, name: str = "dior") -> None:
        if boxes is not None and boxes not in BOXES:
            raise ConfigError(f"dataset.boxes={boxes}: choose {' or '.join(BOXES)}, or null: both")
        self.root = root
        self.boxes = boxes
        self.name = name

    @property
    def _annotation_folders(self) -> list[Path]:
        """Folders of the annotations that are used, the horizontal ones first."""
        folders = [Path(self.root, BOXES[kind]) for kind in BOXES if self.boxes in (None, kind)]
        return [folder for folder in folders if folder.is_dir()]

    def find(self) -> BoxedFolders:
        """Return the folders that exist; raise `DatasetNotFound` if there are none."""
        root, sources = Path(self.root), self._annotation_folders
        images = [folder for folder in IMAGES if (root / folder).is_dir()]
        if not images or not sources:
            expected = [BOXES[kind] for kind in BOXES if self.boxes in (None, kind)]
            raise DatasetNotFound(
                f"no DIOR under {root.absolute()}: found {contents(root)}, looked for "
                f"{'/ or '.join(IMAGES)}/ and {'/ or '.join(expected)}/; download it from {URL}, "
                "or set dataset.root to its folder"
            )
        first, *others = sources
        folders = [
            AnnotatedFolder(IMAGES[i], i, first.relative_to(root).as_posix()) for i in images
        ]
        oriented = others[0] if others else None
        read = partial(parse_both, oriented=oriented) if oriented else parse
        splits = read_splits(root / "ImageSets" / "Main")
        return BoxedFolders(self.root, folders, ".xml", read, CLASSES, splits, additional=oriented)


def parse(path: Path) -> Annotations:
    """Return the objects of a file of either kind, and a message for each invalid object."""
    annotations, unparsed = [], []
    root = read_xml(path, "annotation")
    for i, item in enumerate(root.findall("object"), 1):
        boxes = [box for tag in ("robndbox", "bndbox") if (box := item.find(tag)) is not None]
        if not boxes:
            unparsed.append(f"object {i}: no <bndbox> and no <robndbox>, expected one")
            continue
        if (difficult := is_difficult(item)) is None:
            unparsed.append(f"object {i}: {describe_flag(item)}")
            continue
        tags = EDGES if boxes[0].find(CORNERS[0]) is None else CORNERS
        name = text(item, "name")
        annotations.append(
            Annotation(
                f"object {i}",
                _NAMES.get(plain(name), name),
                values(boxes[0], tags),
                ignore=difficult,
            )
        )
    return Annotations(annotations, unparsed, stated_size(root, *SIZE))


def parse_both(path: Path, *, oriented: Path) -> Annotations:
    """Return the objects of a file of horizontal boxes, with corners from the oriented boxes.

    Objects are paired by their order. If two paired objects differ in class, or the centre of the
    oriented box lies outside the horizontal one, only the oriented boxes are returned. If the
    oriented file is missing, the horizontal boxes are returned.

    Args:
        path: file of horizontal boxes.
        oriented: folder with the file of oriented boxes, which has the same name.

    Returns:
        The objects, and a message for each invalid object.
    """
    horizontal = parse(path)
    if not (oriented / path.name).is_file():
        return horizontal
    rotated = parse(oriented / path.name)
    boxes, rotated_boxes = horizontal.objects, rotated.objects
    if len(boxes) == len(rotated_boxes) and all(map(_is_same_object, boxes, rotated_boxes)):
        pairs = zip(boxes, rotated_boxes, strict=True)
        merged = [replace(b, quad=t.points, ignore=t.ignore) for b, t in pairs]
        return horizontal._replace(objects=merged)
    return rotated


def _is_same_object(box: Annotation, rotated: Annotation) -> bool:
    """Return whether two boxes have the same class and the rotated box's centre is in ``box``."""
    xs, ys = rotated.points[::2], rotated.points[1::2]
    x0, y0, x1, y1 = box.points[:4]
    inside = x0 <= sum(xs) / len(xs) <= x1 and y0 <= sum(ys) / len(ys) <= y1
    return box.category == rotated.category and inside
