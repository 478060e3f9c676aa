"""Read Pascal VOC (Everingham et al., IJCV 88, 2010) and similar sets with horizontal boxes.

An annotation file is XML; an object of 000005.xml of VOC2007::

    <object><name>chair</name><pose>Rear</pose><truncated>0</truncated><difficult>0</difficult>
      <bndbox><xmin>263</xmin><ymin>211</ymin><xmax>324</xmax><ymax>339</ymax></bndbox></object>

VOC counts pixels from 1 and includes the last one, so a box from 1 to W spans the whole width: 0 to
W as edges (as in facebookresearch/detectron2, detectron2/data/datasets/pascal_voc.py).
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
    is_difficult,
    read_xml,
    stated_size,
    text,
    unclear_mark,
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

    If there are split lists, images in none of them are skipped, as the releases include images
    that were annotated for other tasks. Without lists, all images are for training. Difficult
    objects are ignored.

    Args:
        root: folder of the dataset, such as VOCdevkit/VOC2007.
        classes: class names in the order of their ids. None: all that occur, in alphabetical order,
            which reads every file once.
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
                f"JPEGImages/ and Annotations/; get one at {URL}, or set dataset.root to the "
                "folder that holds these two"
            )
        splits = read_splits(root / "ImageSets" / "Main")
        folders = [AnnotatedFolder("" if splits else "train", "JPEGImages", "Annotations")]
        classes = self.classes or _find_classes(root / "Annotations")
        return BoxedFolders(self.root, folders, ".xml", parse, classes, splits, SET_CLASSES)


def parse(path: Path) -> Annotations:
    """Return the objects of an annotation file, and one line for each invalid one."""
    annotations, unclear = [], []
    root = read_xml(path, "annotation")
    for i, item in enumerate(root.findall("object"), 1):
        box = item.find("bndbox")
        if box is None:
            unclear.append(f"object {i}: no <bndbox>, expected one with {' '.join(EDGES)}")
            continue
        if (difficult := is_difficult(item)) is None:
            unclear.append(f"object {i}: {unclear_mark(item)}")
            continue
        x0, y0, x1, y1 = edges = values(box, EDGES)
        fractions = all(0 <= edge <= 1 for edge in edges)  # reported by the later check
        points = edges if fractions else (x0 - 1, y0 - 1, x1, y1)
        annotations.append(Annotation(f"object {i}", text(item, "name"), points, ignore=difficult))
    return Annotations(annotations, unclear, stated_size(root, *SIZE))


def _find_classes(folder: Path) -> list[str]:
    """Return the class names that occur; unreadable files are reported with their image."""
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
            f"the {len(paths)} .xml files under {folder.absolute()} hold no object, so there are "
            "no classes; set dataset.classes=[...], or check that these are the right files"
        )
    logger.info(
        "%s has %d class%s: %s; set dataset.classes=[...] to name them and skip the counting",
        folder.parent,
        len(names),
        "es" * (len(names) > 1),
        ", ".join(sorted(names)),
    )
    return sorted(names)
