"""DIOR and DIOR-R: aerial images with horizontal (Li et al., arXiv 1909.00133) and oriented boxes.

The same 23,463 images have two annotation files each, XML like Pascal VOC's. Objects of 00001.xml
in ``Horizontal Bounding Boxes/`` and in ``Oriented Bounding Boxes/`` (Cheng et al., arXiv
2110.01931; the corners as open-mmlab/mmrotate reads them, mmrotate/datasets/dior.py)::

    <object><name>golffield</name>
      <bndbox><xmin>133</xmin><ymin>237</ymin><xmax>684</xmax><ymax>672</ymax></bndbox></object>

    <object><type>robndbox</type><name>golffield</name><difficult>0</difficult>
      <robndbox><x_left_top>133</x_left_top><y_left_top>237</y_left_top>
        <x_right_top>684</x_right_top> … <y_left_bottom>672</y_left_bottom></robndbox>
      <angle>0</angle></object>

Coordinates are edges of pixels as they stand, for both have the same ones, and SAMRS
(ViTAE-Transformer/SAMRS, Generate Dataset/loaddata.py) takes them so; some horizontal boxes are
called ``<robndbox>``, it says there, and some oriented files have a ``<bndbox>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from alps.errors import ConfigError, DatasetNotFound
from alps.images.boxes.boxed import Annotations, BoxedFolders, BoxedImages, Place
from alps.images.boxes.voc import EDGES, SIZE
from alps.images.files.listing import contents
from alps.images.files.words import read_splits
from alps.images.files.xml_file import (
    is_difficult,
    plain,
    read_xml,
    stated_size,
    text,
    unclear_mark,
    values,
)
from alps.structures.boxes import Annotation

URL = "https://gcheng-nwpu.github.io/#Datasets"
#: In the order of SIOR's pixel values (SAMRS, arXiv 2305.02034).
CLASSES = (
    *("airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney"),
    *("expressway-service-area", "expressway-toll-station", "dam", "golffield"),
    *("groundtrackfield", "harbor", "overpass", "ship", "stadium", "storagetank"),
    *("tenniscourt", "trainstation", "vehicle", "windmill"),
)
#: Folders of images, and the split of those that are in no list.
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
    """``JPEGImages-trainval/``, ``JPEGImages-test/`` and ``Annotations/`` below the root.

    Splits come from ``ImageSets/Main/``; without it there are train and test. Where an image has
    both kinds of boxes and they agree on the objects, the horizontal one is the box and the
    oriented one its corners; where they do not, the oriented ones count.

    Args:
        root: folder of the dataset.
        boxes: horizontal or oriented ones alone. None: all that are there.
        name: what the image set is called.

    Raises:
        ConfigError: there are no such boxes.
    """

    def __init__(self, *, root: str, boxes: str | None = None, name: str = "dior") -> None:
        if boxes is not None and boxes not in BOXES:
            raise ConfigError(f"dataset.boxes={boxes}: choose {' or '.join(BOXES)}, or null: both")
        self.root = root
        self.boxes = boxes
        self.name = name

    @property
    def _folders(self) -> list[Path]:
        """Of the annotations that are used, the horizontal ones first."""
        wanted = [Path(self.root, BOXES[kind]) for kind in BOXES if self.boxes in (None, kind)]
        return [folder for folder in wanted if folder.is_dir()]

    def find(self) -> BoxedFolders:
        """Those that are there; raises `DatasetNotFound` where none is."""
        root, folders = Path(self.root), self._folders
        images = [folder for folder in IMAGES if (root / folder).is_dir()]
        if not images or not folders:
            expected = [BOXES[kind] for kind in BOXES if self.boxes in (None, kind)]
            raise DatasetNotFound(
                f"no DIOR under {root.absolute()}: found {contents(root)}, looked for "
                f"{'/ or '.join(IMAGES)}/ and {'/ or '.join(expected)}/; get it at {URL}, or give "
                "its folder as dataset.root"
            )
        first, *other = folders
        places = [Place(IMAGES[i], i, first.relative_to(root).as_posix()) for i in images]
        beside = other[0] if other else None
        read = partial(parse_both, oriented=beside) if beside else parse
        splits = read_splits(root / "ImageSets" / "Main")
        return BoxedFolders(self.root, places, ".xml", read, CLASSES, splits, beside=beside)


def parse(path: Path) -> Annotations:
    """The objects of an annotation file of either kind, and a line for each that has no box."""
    annotations, unclear = [], []
    root = read_xml(path, "annotation")
    for i, item in enumerate(root.findall("object"), 1):
        boxes = [box for tag in ("robndbox", "bndbox") if (box := item.find(tag)) is not None]
        if not boxes:
            unclear.append(f"object {i}: no <bndbox> and no <robndbox>, expected one of them")
            continue
        if (difficult := is_difficult(item)) is None:
            unclear.append(f"object {i}: {unclear_mark(item)}")
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
    return Annotations(annotations, unclear, stated_size(root, *SIZE))


def parse_both(path: Path, *, oriented: Path) -> Annotations:
    """The objects of a file of horizontal boxes, with their corners from the oriented ones.

    They are matched by their order, if all are of the same class as their partner and round it;
    else the oriented ones are returned alone. An image that is in one folder only is read there.

    Args:
        path: file of horizontal boxes.
        oriented: folder of the other file, which has the same name.
    """
    horizontal = parse(path)
    if not (oriented / path.name).is_file():
        return horizontal
    turned = parse(oriented / path.name)
    boxes, others = horizontal.objects, turned.objects
    if len(boxes) == len(others) and all(map(_is_one, boxes, others)):
        pairs = zip(boxes, others, strict=True)
        both = [replace(b, quad=t.points, ignore=t.ignore) for b, t in pairs]
        return horizontal._replace(objects=both)
    return turned


def _is_one(box: Annotation, turned: Annotation) -> bool:
    """Whether two boxes can be of one object: the centre of the second lies in the first."""
    xs, ys = turned.points[::2], turned.points[1::2]
    x0, y0, x1, y1 = box.points[:4]
    inside = x0 <= sum(xs) / len(xs) <= x1 and y0 <= sum(ys) / len(ys) <= y1
    return box.category == turned.category and inside
