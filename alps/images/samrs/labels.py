"""Read SAMRS with its labels: SOTA, SIOR and FAST (Wang et al., arXiv 2305.02034).

The folders are laid out as for the authors' pre-training (ViTAE-Transformer/SAMRS,
Encoder_Decoder/main_pretrain.py): ``gray/`` contains index maps, in which 255 (no object) is
ignored. Classes and colours are those in the authors' Generate Dataset/mapping.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from alps.errors import ConfigError, DatasetNotFound
from alps.images.boxes import dior, dota, fair1m
from alps.images.files.labels import Labels, read_labels
from alps.images.files.listing import contents
from alps.images.files.read import read_sample
from alps.images.samrs.images import SUBSETS, URL, Samrs
from alps.structures.records import Category, ImageRecord, Sample, number_classes

logger = logging.getLogger(__name__)

#: Class names in the order of the pixel values, by subset.
CLASSES: Mapping[str, Sequence[str]] = {
    "sota": dota.CLASSES,
    "sior": dior.CLASSES,
    "fast": fair1m.CLASSES,
}
#: Colour of each pixel value in all subsets; 255 (unlabelled) is white.
COLORS = (
    *((0, 127, 255), (0, 63, 0), (0, 127, 63), (0, 63, 255), (0, 0, 127)),
    *((0, 127, 127), (0, 0, 63), (0, 63, 127), (0, 63, 191), (0, 191, 127)),
    *((0, 127, 191), (0, 63, 63), (0, 100, 155), (0, 0, 255), (0, 0, 191)),
    *((64, 191, 127), (64, 0, 191), (128, 63, 63), (128, 0, 63), (191, 63, 0)),
    *((255, 127, 0), (63, 0, 0), (127, 63, 0), (63, 255, 0), (0, 127, 0)),
    *((127, 127, 0), (63, 0, 63), (63, 127, 0), (63, 191, 0), (191, 127, 0)),
    *((127, 191, 0), (63, 63, 0), (100, 155, 0), (0, 255, 0), (0, 191, 0)),
    *((191, 127, 64), (0, 191, 64)),
)
#: Label folders, named after SAM's prompts and the images; all are searched.
FOLDERS = ("hbox_segs_init", "hbox_segs_trainvaltest_init", "rhbox_segs_init")


class SamrsLabels:
    """The images of one subset that have an index map in ``gray/``, and these maps.

    SAMRS has no maps for images without objects; these images are counted and skipped. Ids and
    splits are the same as in `alps.images.samrs.images.Samrs`.

    Args:
        root: folder that contains the subset.
        subset: sota, sior or fast.
        name: name of the image set. None: the name of the subset.

    Raises:
        ConfigError: there is no such subset.
    """

    ignore_index = 255

    def __init__(self, *, root: str, subset: str, name: str | None = None) -> None:
        check_subset(subset)
        self.root = root
        self.subset = subset
        self.name = name or subset

    @property
    def protocol(self) -> str:
        """Evaluation protocol that scores are reported under."""
        return (
            f"agreement with SAMRS's {self.subset.upper()}, whose masks are SAM's, on valid.txt: "
            f"{len(CLASSES[self.subset])} classes, pixels outside objects ignored"
        )

    def records(self) -> list[ImageRecord]:
        """Return all images with an index map.

        Raises:
            DatasetNotFound: there are no images, or no image has a map.
        """
        return list_labelled(self.root, self.subset, "gray", ".png")

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        return read_sample(self.root, record)

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return subset_categories(self.subset)

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one image; raise `LabelError` if it cannot be read."""
        return read_labels(label_path(self.root, record, "gray", ".png"))


def check_subset(subset: str) -> None:
    """Raise `ConfigError` if SAMRS has no subset of this name."""
    if subset not in SUBSETS:
        raise ConfigError(f"dataset.subset={subset}: choose {', '.join(SUBSETS)}")


def subset_categories(subset: str) -> list[Category]:
    """Return the classes of a subset, in SAMRS's colours."""
    return number_classes(zip(CLASSES[subset], COLORS, strict=False))  # FAST has the most classes


def list_labelled(root: str, subset: str, kind: str, suffix: str) -> list[ImageRecord]:
    """Return the images of a subset that have a label of one kind.

    Args:
        root: folder that contains the subset.
        subset: sota, sior or fast.
        kind: folder of the labels, gray or ins.
        suffix: suffix of the label files.

    Raises:
        DatasetNotFound: there are no images, or no image has a label.
    """
    records = Samrs(root, [subset]).records()
    labelled = [r for r in records if label_path(root, r, kind, suffix).is_file()]
    if not labelled:
        base = Path(root, records[0].file_name).parents[1]
        raise DatasetNotFound(
            f"none of the {len(records)} images of SAMRS's {subset.upper()} has a label: found "
            f"{contents(base)} in {base.absolute()}, looked for {kind}/*{suffix} in "
            f"{', '.join(FOLDERS)}; download the labels, too, from {URL}"
        )
    if len(labelled) < len(records):
        logger.warning(
            "%d of %d images of SAMRS's %s have no label in %s and are skipped",
            len(records) - len(labelled),
            len(records),
            subset.upper(),
            kind,
        )
    return labelled


def label_path(root: str, record: ImageRecord, kind: str, suffix: str) -> Path:
    """Return the path of an image's label; if none exists, the path where it is expected.

    Args:
        root: folder that contains the subset.
        record: the image.
        kind: folder of the labels, gray or ins.
        suffix: suffix of the label file.
    """
    image = Path(root, record.file_name)
    paths = [image.parents[1] / folder / kind / f"{image.stem}{suffix}" for folder in FOLDERS]
    return next((path for path in paths if path.is_file()), paths[0])
