"""Read FAIR1M: satellite images with rotated boxes of 37 classes (Sun et al., arXiv 2103.05569).

An annotation file is XML. A box is given by its four corners in any order; the first corner is
repeated at the end (layout as read by microsoft/torchgeo, torchgeo/datasets/fair1m.py)::

    <annotation><source><filename>0.tif</filename><origin>GF2/GF3</origin></source> …
      <objects><object>
        <coordinate>pixel</coordinate><type>rectangle</type><description>None</description>
        <possibleresult><name>Small Car</name></possibleresult>
        <points><point>1.0,1.0</point><point>1.0,5.0</point><point>5.0,5.0</point>
          <point>5.0,1.0</point><point>1.0,1.0</point></points>
      </object> … </objects></annotation>
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alps.errors import DatasetNotFound
from alps.images.boxes.boxed import AnnotatedFolder, Annotations, BoxedFolders, BoxedImages
from alps.images.boxes.voc import SIZE
from alps.images.files.fields import parse_numbers
from alps.images.files.listing import contents
from alps.images.files.xml_file import plain, read_xml, stated_size, text
from alps.structures.boxes import Annotation

URL = "https://www.gaofen-challenge.com/benchmark"
#: Class names in the order of FAST's pixel values (SAMRS, arXiv 2305.02034). The annotation files
#: have spaces instead of hyphens.
CLASSES = (
    *("A220", "A321", "A330", "A350", "ARJ21", "Baseball-Field", "Basketball-Court"),
    *("Boeing737", "Boeing747", "Boeing777", "Boeing787", "Bridge", "Bus", "C919", "Cargo-Truck"),
    *("Dry-Cargo-Ship", "Dump-Truck", "Engineering-Ship", "Excavator", "Fishing-Boat"),
    *("Football-Field", "Intersection", "Liquid-Cargo-Ship", "Motorboat", "other-airplane"),
    *("other-ship", "other-vehicle", "Passenger-Ship", "Roundabout", "Small-Car", "Tennis-Court"),
    *("Tractor", "Trailer", "Truck-Tractor", "Tugboat", "Van", "Warship"),
)
#: Folders that may contain images and labels, with their splits.
PARTS: Mapping[str, str] = {
    "train/part1": "train",
    "train/part2": "train",
    "train": "train",
    "validation": "val",
    "val": "val",
    "": "train",
}
IMAGES = ("images", "images-1", "images-2")
LABELS = ("labelXml", "labelXmls")
_NAMES = {plain(name): name for name in CLASSES}


class Fair1m(BoxedImages):
    """FAIR1M in ``images/`` and ``labelXml/`` of train/part1, train/part2 and validation.

    The folders may also be in train/, val/ or the root itself; all that exist are used. Image ids
    contain the folder, as in ``train/part1/0``, because the parts use the same numbers. The test
    images have no public labels and are skipped.

    Args:
        root: folder of the dataset.
        name: name of the image set.
    """

    def __init__(self, *, root: str, name: str = "fair1m") -> None:
        self.root = root
        self.name = name

    def find(self) -> BoxedFolders:
        """Return the folders that exist; raise `DatasetNotFound` if there are none."""
        root = Path(self.root)
        folders = []
        for part, split in PARTS.items():
            prefix = part and f"{part}/"
            labels = [folder for folder in LABELS if (root / part / folder).is_dir()]
            for images in IMAGES:
                if labels and (root / part / images).is_dir():
                    folder = AnnotatedFolder(
                        split, f"{prefix}{images}", f"{prefix}{labels[0]}", prefix
                    )
                    folders.append(folder)
        if not folders:
            raise DatasetNotFound(
                f"no FAIR1M under {root.absolute()}: found {contents(root)}, looked for images/ "
                "and labelXml/ there and in train/part1/, train/part2/ and validation/; download "
                f"it from {URL}, or set dataset.root to its folder"
            )
        return BoxedFolders(self.root, folders, ".xml", parse, CLASSES)


def parse(path: Path) -> Annotations:
    """Return the objects of a label file, and a message for each object not in pixels."""
    annotations, unparsed = [], []
    root = read_xml(path, "annotation")
    for i, item in enumerate(root.findall("objects/object"), 1):
        unit = text(item, "coordinate") or "pixel"
        if unit != "pixel":
            unparsed.append(f"object {i}: coordinates in {unit}, expected pixel")
            continue
        points = [(point.text or "").split(",") for point in item.findall("points/point")]
        if len(points) == 5 and points[0] == points[-1]:
            points.pop()
        name = text(item, "possibleresult/name")
        coordinates = parse_numbers([word for point in points for word in point])
        annotations.append(Annotation(f"object {i}", _NAMES.get(plain(name), name), coordinates))
    return Annotations(annotations, unparsed, stated_size(root, *SIZE))
