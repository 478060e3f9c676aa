"""Read Pascal VOC (Everingham et al., IJCV 88, 2010) and similar datasets with horizontal boxes.

An annotation file is XML. An object in VOC2007's 000005.xml::

    <object><name>chair</name><pose>Rear</pose><truncated>0</truncated><difficult>0</difficult>
      <bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox></object>

VOC counts pixels from 1 and includes the last one: a box from 1 to W spans the full width. Its
edges are read as 0 and W (as in facebookresearch/detectron2,
detectron2/data/datasets/pascal_voc.py).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from alps.errors import DatasetNotFound, ImageError, LabelError
from alps.images.boxes.boxed import AnnotatedFolder, Annotations, BoxedFolders, BoxedImages
from alps.images.files.audit import SET_CLASSES
from alps.images.files.fields import check_classes, read_splits
from alps.images.files.listing import contents, walk
from alps.images.files.xml_file import (
    describe_flag,
    is_difficult,
    read_xml,
    stated_size,
    text,
    values,
)
from alps.structures.boxes import Annotation

logger = logging.getLogger(__name__)

URL = "http://host.robots.ox.ac.uk/pascal/VOC/"
EDGES = ("xmin", "ymin", "xmax", "ymax")
#: Elements with the height and the width of the image.
SIZE = ("size/height", "size/width")


class Voc(BoxedImages):
    """Pascal VOC in ``JPEGImages/``, ``Annotations/`` and, for splits, ``ImageSets/Main/``.

    If there are split lists, only images in the lists are read, because the releases include images
    that were annotated for segmentation or actions. Without lists, all images are in the split
    "train". Difficult objects are ignored.

    Args:
        root: folder of the dataset, such as VOCdevkit/VOC2007.
        classes: class names in the order of their ids. None: all names in the annotations, in
            alphabetical order; every file is then read once.
        name: name of the image set.

    Raises:
        ConfigError: ``classes`` is not a list of distinct names.
    """

    def __init__(
        self, *, root: str, classes: Sequence[str] | None = None, name: str = "voc"
    ) -> None:
        self.root = root
        self.classes = check_classes(classes)
        self.name = name

    def find(self) -> BoxedFolders:
        """Return the folders.

        Raises:
            DatasetNotFound: a folder is missing.
            LabelError: ``classes`` is None and no file has an object.
        """
        root = Path(self.root)
        if not ((root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()):
            raise DatasetNotFound(
                f"no Pascal VOC under {root.absolute()}: found {contents(root)}, looked for "
                f"JPEGImages/ and Annotations/; download it from {URL}, or set dataset.root to the "
                "folder that contains them"
            )
        splits = read_splits(root / "ImageSets" / "Main")
        folders = [AnnotatedFolder("" if splits else "train", "JPEGImages", "Annotations")]
        classes = self.classes or _find_classes(root / "Annotations")
        return BoxedFolders(self.root, folders, ".xml", parse, classes, splits, SET_CLASSES)


def parse(path: Path) -> Annotations:
    """Return the objects of an annotation file, and a message for each invalid object."""
    annotations, unparsed = [], []
    root = read_xml(path, "annotation")
    for i, item in enumerate(root.findall("object"), 1):
        box = item.find("bndbox")
        if box is None:
            unparsed.append(f"object {i}: no <bndbox>, expected one with {' '.join(EDGES)}")
            continue
        if (difficult := is_difficult(item)) is None:
            unparsed.append(f"object {i}: {describe_flag(item)}")
            continue
        x0, y0, x1, y1 = edges = values(box, EDGES)
        fractions = all(0 <= edge <= 1 for edge in edges)  # check_boxes reports them
        points = edges if fractions else (x0 - 1, y0 - 1, x1, y1)
        annotations.append(Annotation(f"object {i}", text(item, "name"), points, ignore=difficult))
    return Annotations(annotations, unparsed, stated_size(root, *SIZE))


def _find_classes(folder: Path) -> list[str]:
    """Return the class names in the annotations; `read` reports unreadable files."""
    paths = [folder / path for path, _ in walk(folder) if path.lower().endswith(".xml")]
    names, first_error = set[str](), ""
    for path in tqdm(paths, "counting classes", unit="file", delay=1):
        try:
            names |= {annotation.category for annotation in parse(path).objects}
        except ImageError as error:
            first_error = first_error or str(error)
    if first_error and not names:
        raise LabelError(
            f"no object can be read from the {len(paths)} .xml files under {folder.absolute()}; "
            f"the first that cannot be read: {first_error}"
        )
    if not names:
        raise LabelError(
            f"the {len(paths)} .xml files under {folder.absolute()} contain no object, so there "
            "are no classes; set dataset.classes=[...], or check that these are the right files"
        )
    logger.info(
        "%s has %d class%s: %s; set dataset.classes=[...] to name them and skip the counting",
        folder.parent,
        len(names),
        "es" * (len(names) > 1),
        ", ".join(sorted(names)),
    )
    return sorted(names)
