"""Read HRSC2016: satellite images with rotated boxes of ships (Liu et al., ICPRAM 2017).

An annotation file is XML. A ship has a horizontal box in pixels, and a rotated box with centre,
width, height and angle. The angle is in radians, from the x axis to the y axis, which is clockwise
on screen (layout as read by open-mmlab/mmrotate, tools/data/hrsc; excerpt of 100000001.xml)::

    <HRSC_Image><Img_ID>100000001</Img_ID> … <HRSC_Objects><HRSC_Object>
        <Object_ID>100000001</Object_ID><Class_ID>100000013</Class_ID> … <difficult>0</difficult>
        <box_xmin>194</box_xmin><box_ymin>243</box_ymin>
        <box_xmax>972</box_xmax><box_ymax>507</box_ymax>
        <mbox_cx>582.9349</mbox_cx><mbox_cy>353.2006</mbox_cy>
        <mbox_w>778.1303</mbox_w><mbox_h>174.2541</mbox_h><mbox_ang>-0.2144308</mbox_ang> …
      </HRSC_Object></HRSC_Objects></HRSC_Image>
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from alps.errors import ConfigError, DatasetNotFound
from alps.images.boxes.boxed import AnnotatedFolder, Annotations, BoxedFolders, BoxedImages
from alps.images.files.fields import read_splits
from alps.images.files.listing import contents
from alps.images.files.xml_file import (
    describe_flag,
    is_difficult,
    read_xml,
    stated_size,
    text,
    values,
)
from alps.structures.boxes import Annotation

URL = "https://aistudio.baidu.com/aistudio/datasetdetail/54106"
#: Class names by Class_ID, from 100000001 (open-mmlab/mmrotate, mmrotate/datasets/hrsc.py); two
#: ids are unused.
_NAMES = (
    *("ship", "aircraft carrier", "warcraft", "merchant ship", "Nimitz", "Enterprise"),
    *("Arleigh Burke", "WhidbeyIsland", "Perry", "Sanantonio", "Ticonderoga", "Kitty Hawk"),
    *("Kuznetsov", "Abukuma", "Austen", "Tarawa", "Blue Ridge", "Container", "OXo|--)"),
    *("Car carrier([]==[])", "", "Hovercraft", "", "yacht", "CntShip(_|.--.--|_]=", "Cruise"),
    *("submarine", "lute", "Medical", "Car carrier(======|", "Ford-class", "Midway-class"),
    "Invincible-class",
)
TYPES: Mapping[str, str] = {f"1{i:08}": name for i, name in enumerate(_NAMES, 1) if name}
LEVELS: Mapping[str, tuple[str, ...]] = {"ship": ("ship",), "type": tuple(TYPES.values())}
#: Folders of images and annotations, each with the split of its images that are in no list.
PARTS: Mapping[str, str] = {"Train": "train", "Test": "test"}
IMAGES = ("AllImages", "JPEGImages")
BOX = ("box_xmin", "box_ymin", "box_xmax", "box_ymax")
SIZE = ("Img_SizeHeight", "Img_SizeWidth")
ROTATED_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


class Hrsc2016(BoxedImages):
    """HRSC2016 in ``Train/`` and ``Test/`` or in ``FullDataSet/`` below the root.

    Each folder contains AllImages/ (or JPEGImages/) and Annotations/. Splits come from
    ``ImageSets/``. Images of FullDataSet that are in no list have no annotations and are skipped.
    Difficult ships are ignored. The masks that some images have are not read.

    Args:
        root: folder of the dataset.
        level: "ship" for one class, or "type" for the 31 ship types.
        name: name of the image set.

    Raises:
        ConfigError: ``level`` has another value.
    """

    def __init__(self, *, root: str, level: str = "ship", name: str = "hrsc2016") -> None:
        if level not in LEVELS:
            raise ConfigError(f"dataset.level={level}: choose {' or '.join(LEVELS)}")
        self.root = root
        self.level = level
        self.name = name

    def find(self) -> BoxedFolders:
        """Return the folders that exist; raise `DatasetNotFound` if there are none."""
        root = Path(self.root)
        splits = read_splits(root / "ImageSets")
        parts = {**PARTS} if any((root / part).is_dir() for part in PARTS) else {}
        if not parts and splits:
            parts["FullDataSet"] = ""
        folders = [
            AnnotatedFolder(split, f"{part}/{images}", f"{part}/Annotations")
            for part, split in parts.items()
            for images in IMAGES
            if (root / part / images).is_dir() and (root / part / "Annotations").is_dir()
        ]
        if not folders:
            raise DatasetNotFound(
                f"no HRSC2016 under {root.absolute()}: found {contents(root)}, looked for "
                "AllImages/ and Annotations/ in Train/ and Test/, or in FullDataSet/ with the "
                f"lists in ImageSets/; download it from {URL}, or set dataset.root to its folder"
            )
        read = partial(parse, level=self.level)
        return BoxedFolders(self.root, folders, ".xml", read, LEVELS[self.level], splits)


def parse(path: Path, *, level: str = "ship") -> Annotations:
    """Return the ships of an annotation file, and a message for each ship with an invalid flag."""
    annotations, unparsed = [], []
    root = read_xml(path, "HRSC_Image")
    for i, item in enumerate(root.findall("HRSC_Objects/HRSC_Object"), 1):
        if (difficult := is_difficult(item)) is None:
            unparsed.append(f"object {i}: {describe_flag(item)}")
            continue
        class_id = text(item, "Class_ID")
        annotations.append(
            Annotation(
                f"object {i}",
                "ship" if level == "ship" else TYPES.get(class_id, class_id),
                values(item, BOX),
                _corners(*values(item, ROTATED_BOX)),
                ignore=difficult,
            )
        )
    return Annotations(annotations, unparsed, stated_size(root, *SIZE))


def _corners(cx: float, cy: float, width: float, height: float, angle: float) -> list[float]:
    """Return the corners of a box (px, radians), clockwise from the upper left at angle 0."""
    if not math.isfinite(angle):
        return [math.nan] * 8
    cos, sin = math.cos(angle), math.sin(angle)
    corners = []
    for x, y in ((-width, -height), (width, -height), (width, height), (-width, height)):
        corners += [cx + (x * cos - y * sin) / 2, cy + (x * sin + y * cos) / 2]
    return corners
