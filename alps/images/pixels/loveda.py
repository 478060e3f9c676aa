"""Read LoveDA: 1024 × 1024 px images at 0.3 m of three cities and their countryside, seven classes.

Wang et al., arXiv 2110.08733. The folders are laid out as in the archives. In the masks, 0 is
nodata and 1 to 7 are the classes (Junjue-Wang/LoveDA). As in mmsegmentation's LoveDADataset,
classes are renumbered from 0 and nodata is ignored.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from alps.errors import DatasetNotFound, LabelError
from alps.images.files.labels import Labels, read_labels, refuse_unlabelled
from alps.images.files.listing import contents
from alps.images.files.read import read_sample
from alps.images.plain.folder import Folder
from alps.structures.records import Category, ImageRecord, Sample, number_classes

URL = "https://github.com/Junjue-Wang/LoveDA"
#: Name and colour, in the order of the mask values from 1 (mmseg/datasets/loveda.py).
CLASSES = (
    ("background", (255, 255, 255)),
    ("building", (255, 0, 0)),
    ("road", (255, 255, 0)),
    ("water", (0, 0, 255)),
    ("barren", (159, 129, 183)),
    ("forest", (0, 255, 0)),
    ("agricultural", (255, 195, 128)),
)
NO_DATA = 0  # in the masks
IGNORE_INDEX = 255
#: Folders and their splits.
PARTS = {"Train": "train", "Val": "val"}
DOMAINS = ("Rural", "Urban")
IMAGES, MASKS = "images_png", "masks_png"
LAYOUT = f"{{Train,Val}}/{{Rural,Urban}}/{{{IMAGES},{MASKS}}}/*.png"


class LoveDA:
    """The images of Train and Val; ids are ``Train/Rural/0`` and so on.

    The images of Test have no public masks and are skipped.

    Args:
        root: folder that contains Train and Val.
        name: name of the image set.
    """

    ignore_index = IGNORE_INDEX
    protocol = "LoveDA Val, rural and urban, 7 classes (background is one), no data ignored"

    def __init__(self, *, root: str, name: str = "loveda") -> None:
        self.root = root
        self.name = name

    def records(self) -> list[ImageRecord]:
        """Return all images of the parts that exist.

        Raises:
            DatasetNotFound: there is no image.
            LabelError: an image has no mask.
        """
        root = Path(self.root)
        records = []
        for part, split in PARTS.items():
            for domain in DOMAINS:
                folder = f"{part}/{domain}/{IMAGES}"
                images = (
                    Folder(str(root / folder), self.name, split).records()
                    if (root / folder).is_dir()
                    else []
                )
                records += [
                    ImageRecord(
                        f"{part}/{domain}/{record.image_id}",
                        f"{folder}/{record.file_name}",
                        split,
                        record.bytes,
                    )
                    for record in images
                ]
        if not records:
            raise DatasetNotFound(
                f"no image of LoveDA under {root.absolute()}: found {contents(root)}, looked for "
                f"{LAYOUT}; download Train.zip and Val.zip from {URL} and unzip them there, or set "
                "dataset.root to their folder"
            )
        refuse_unlabelled(
            [r.file_name for r in records if not self._mask(r).is_file()],
            len(records),
            f"a file of the same name in {MASKS}, next to {IMAGES}",
        )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        return read_sample(self.root, record)

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return number_classes(CLASSES)

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one image; raise `LabelError` if it cannot be read."""
        path = self._mask(record)
        values = read_labels(path)
        if values.max() > len(CLASSES):
            raise LabelError(
                f"{path} contains the value {values.max()}, expected 0 (no data) to "
                f"{len(CLASSES)}; use the published file"
            )
        return np.where(values == NO_DATA, IGNORE_INDEX, values - 1).astype(np.uint8)

    def _mask(self, record: ImageRecord) -> Path:
        """Return the mask file of an image."""
        part, domain, _, *rest = PurePosixPath(record.file_name).parts
        return Path(self.root, part, domain, MASKS, *rest)
