"""SAMRS with its own labels: SOTA, SIOR and FAST (Wang et al., arXiv 2305.02034).

Where they lie is what its authors' pre-training reads (ViTAE-Transformer/SAMRS, Encoder_Decoder/
main_pretrain.py): ``gray/`` holds the class of every pixel, and 255, no object, is ignored. Classes
and their colours are those of its Generate Dataset/mapping.py.
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

#: Names in the order of the pixel values.
CLASSES: Mapping[str, Sequence[str]] = {
    "sota": dota.CLASSES,
    "sior": dior.CLASSES,
    "fast": fair1m.CLASSES,
}
#: The colour of each pixel value, in all subsets; 255, unlabelled, is white.
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
#: Folders of labels, by what SAM was prompted with and of which images; all are looked for.
FOLDERS = ("hbox_segs_init", "hbox_segs_trainvaltest_init", "rhbox_segs_init")


class SamrsLabels:
    """The images of one subset that have a map in ``gray/``, and these maps.

    Where there are no objects SAMRS has no map: such images are left out and counted. Ids and
    splits are those of `alps.images.samrs.images.Samrs`.

    Args:
        root: folder that holds the subset.
        subset: sota, sior or fast.
        name: what the image set is called. None: as the subset.

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
        """How scores are to be read."""
        return (
            f"agreement with SAMRS's {self.subset.upper()}, whose masks are SAM's, on valid.txt: "
            f"{len(CLASSES[self.subset])} classes, what is no object ignored"
        )

    def records(self) -> list[ImageRecord]:
        """All images with a map.

        Raises:
            DatasetNotFound: there are no images, or none with a map.
        """
        return list_labelled(self.root, self.subset, "gray", ".png")

    def read(self, record: ImageRecord) -> Sample:
        """Decode one image; raises `ImageError` when it cannot be used."""
        return read_sample(self.root, record)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        return subset_categories(self.subset)

    def read_target(self, record: ImageRecord) -> Labels:
        """The index map of one image; raises `LabelError` when it cannot be used."""
        return read_labels(label_path(self.root, record, "gray", ".png"))


def check_subset(subset: str) -> None:
    """Raise `ConfigError` if SAMRS has none of this name."""
    if subset not in SUBSETS:
        raise ConfigError(f"dataset.subset={subset}: choose {', '.join(SUBSETS)}")


def subset_categories(subset: str) -> list[Category]:
    """The classes of a subset, in SAMRS's colours."""
    return number_classes(zip(CLASSES[subset], COLORS, strict=False))  # FAST has most


def list_labelled(root: str, subset: str, kind: str, suffix: str) -> list[ImageRecord]:
    """The images of a subset that have a label of a kind.

    Args:
        root: folder that holds the subset.
        subset: sota, sior or fast.
        kind: folder of the labels, gray or ins.
        suffix: of their files.

    Raises:
        DatasetNotFound: there are no images, or none with a label.
    """
    records = Samrs(root, [subset]).records()
    labelled = [r for r in records if label_path(root, r, kind, suffix).is_file()]
    if not labelled:
        base = Path(root, records[0].file_name).parents[1]
        raise DatasetNotFound(
            f"none of the {len(records)} images of SAMRS's {subset.upper()} has a label: found "
            f"{contents(base)} in {base.absolute()}, looked for {kind}/*{suffix} in "
            f"{', '.join(FOLDERS)}; get the labels, too, at {URL}"
        )
    if len(labelled) < len(records):
        logger.warning(
            "%d of %d images of SAMRS's %s have no label in %s and are left out",
            len(records) - len(labelled),
            len(records),
            subset.upper(),
            kind,
        )
    return labelled


def label_path(root: str, record: ImageRecord, kind: str, suffix: str) -> Path:
    """Where the label of an image lies, or would lie."""
    image = Path(root, record.file_name)
    paths = [image.parents[1] / folder / kind / f"{image.stem}{suffix}" for folder in FOLDERS]
    return next((path for path in paths if path.is_file()), paths[0])
