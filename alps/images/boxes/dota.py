"""Read DOTA: aerial images with rotated boxes (Ding et al., arXiv 2102.12219).

A label file is text: two lines about the image, then one line per object with four corners, the
category and a difficulty flag (1 or, in some releases, 2)::

    imagesource:GoogleEarth
    gsd:0.266170468393
    674 375 683 375 684 394 675 395 small-vehicle 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError, DatasetNotFound
from alps.images.boxes.boxed import AnnotatedFolder, Annotations, BoxedFolders, BoxedImages
from alps.images.files.audit import SET_CLASSES
from alps.images.files.fields import check_classes, parse_flag, parse_numbers, read_text
from alps.images.files.listing import contents
from alps.structures.boxes import Annotation

URL = "https://captain-whu.github.io/DOTA/dataset.html"
#: Class names in the order of SOTA's pixel values (SAMRS, arXiv 2305.02034); version 1.0 has the
#: first 15, version 1.5 the first 16.
CLASSES = (
    *("large-vehicle", "swimming-pool", "helicopter", "bridge", "plane", "ship"),
    *("soccer-ball-field", "basketball-court", "ground-track-field", "small-vehicle"),
    *("baseball-diamond", "tennis-court", "roundabout", "storage-tank", "harbor"),
    *("container-crane", "airport", "helipad"),
)
#: Number of classes per version.
VERSIONS: Mapping[str, int] = {"1.0": 15, "1.5": 16, "2.0": 18}
SPLITS = ("train", "val")


class Dota(BoxedImages):
    """DOTA in ``images/`` and ``labelTxt/``, in the root or in its subfolders train/ and val/.

    The label folder may also be ``labelTxt-v2.0/`` and so on, with subfolders, as in the archives.

    Args:
        root: folder of the dataset.
        version: 1.0 (15 classes), 1.5 (16 classes) or 2.0 (18 classes).
        classes: custom class names in the order of their ids. None: the classes of the version.
        name: name of the image set.

    Raises:
        ConfigError: there is no such version, or ``classes`` is not a list of distinct names.
    """

    def __init__(
        self,
        *,
        root: str,
        version: str | float = "2.0",
        classes: Sequence[str] | None = None,
        name: str = "dota",
    ) -> None:
        if str(version) not in VERSIONS:
            raise ConfigError(f"dataset.version={version}: choose one of {', '.join(VERSIONS)}")
        self.root = root
        self.version = str(version)
        self.classes = check_classes(classes)
        self.name = name

    def find(self) -> BoxedFolders:
        """Return the folders that exist; raise `DatasetNotFound` if there are none."""
        folders = []
        for split in (*SPLITS, ""):
            folder = Path(self.root, split)
            for labels in (f"labelTxt-v{self.version}", "labelTxt"):
                if (folder / "images").is_dir() and (folder / labels).is_dir():
                    prefix = split and f"{split}/"
                    folders.append(
                        AnnotatedFolder(split or "train", f"{prefix}images", f"{prefix}{labels}")
                    )
                    break
        if not folders:
            root = Path(self.root)
            raise DatasetNotFound(
                f"no DOTA-v{self.version} under {root.absolute()}: found {contents(root)}, looked "
                f"for images/ and labelTxt/ (or labelTxt-v{self.version}/) there and in train/ and "
                f"val/; download it from {URL}, or set dataset.root to its folder"
            )
        classes = self.classes or CLASSES[: VERSIONS[self.version]]
        return BoxedFolders(self.root, folders, ".txt", parse, classes, unknown_remedy=SET_CLASSES)


def parse(path: Path) -> Annotations:
    """Return the objects of a label file, and a message for each line that cannot be parsed."""
    annotations, unparsed = [], []
    for i, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith(("imagesource:", "gsd:")):
            continue
        if len(fields) not in (9, 10):
            expected = "x1 y1 … x4 y4 category difficult"
            unparsed.append(f"line {i}: {len(fields)} fields, expected {expected}")
            continue
        ignore = parse_flag(fields[9] if len(fields) == 10 else "")
        if ignore is None:
            unparsed.append(f"line {i}: difficult is {fields[9][:60]!r}, expected 0, 1 or 2")
            continue
        annotations.append(
            Annotation(f"line {i}", fields[8], parse_numbers(fields[:8]), ignore=ignore)
        )
    return Annotations(annotations, unparsed)
