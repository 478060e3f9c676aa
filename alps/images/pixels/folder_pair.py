"""Read images and index maps from two folders of the same structure, as in mmsegmentation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.files.ids import to_nfc
from alps.images.files.labels import LABEL_SUFFIXES, Labels, read_labels, refuse_unlabelled
from alps.images.files.listing import contents, walk
from alps.images.files.numbering import (
    FOREGROUND,
    binary_to_index,
    is_binary,
    label_values,
    reduce_zero_label,
)
from alps.images.files.read import read_sample, to_sample
from alps.images.geo.settings import check_bands
from alps.images.plain.folder import Folder
from alps.rasters.band_names import resolve_bands
from alps.rasters.pixels import blank_invalid
from alps.rasters.raster import Raster
from alps.rasters.sidecars import find_sidecars
from alps.rasters.view import View
from alps.structures.findings import Finding
from alps.structures.palette import color_classes
from alps.structures.records import Category, ImageRecord, Sample

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
_SUFFIXES = " or ".join(LABEL_SUFFIXES)
UINT16_MAX = 65535
LAYOUT = "img_dir/{train,val,test}/ and ann_dir/{train,val,test}/"


class FolderPair:
    """``img_dir/<split>/x.jpg`` with ``ann_dir/<split>/x.png``, at any depth below the split.

    The splits are train, val and test, if they exist. Image ids are paths relative to img_dir
    without the suffix, such as ``train/x``, because a name may occur in several splits.

    If there are two classes and the label files contain only 0 and 255, 255 is read as class 1, and
    a warning is logged.

    Args:
        root: the folder that contains img_dir and ann_dir.
        name: name of the image set.
        classes: class names in the order of their ids. None: every label file is read once to count
            the classes.
        ignore_index: label that is excluded from training and scores.
        reduce_zero_label: ignore 0 as well, and map the labels 1..n to the classes 0..n-1.
        bands: bands that networks see instead of RGB, by number (from 1) or description; the
            images are then TIFF or JPEG 2000 files. None: RGB.

    Raises:
        ConfigError: ``classes`` is not a list of distinct names, ``reduce_zero_label`` is not a
            boolean, ``ignore_index`` is out of range, or ``bands`` is not a list of bands.
    """

    def __init__(
        self,
        *,
        root: str,
        name: str = "folder_pair",
        classes: Sequence[str] | None = None,
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        bands: Sequence[int | str] | None = None,
    ) -> None:
        if isinstance(classes, str) or len({*(classes or ())}) < len(classes or ()):
            raise ConfigError(
                f"dataset.classes={classes}: expected a list of distinct names, one per class, "
                "such as [road,tree,water]"
            )
        if reduce_zero_label not in (True, False):
            raise ConfigError(
                f"dataset.reduce_zero_label={reduce_zero_label}: expected true or false"
            )
        if reduce_zero_label and not 0 < ignore_index <= UINT16_MAX:
            raise ConfigError(
                f"dataset.ignore_index={ignore_index}: with reduce_zero_label=true expected a "
                f"number from 1 to {UINT16_MAX} that is not a class"
            )
        self.root = root
        self.name = name
        self.classes = classes
        self.ignore_index = ignore_index
        self.reduce_zero_label = reduce_zero_label
        self.bands = check_bands("bands", bands)

    @property
    def protocol(self) -> str:
        """Evaluation protocol that scores are reported under."""
        folder = Path(self.root).resolve().name
        labels = f"label {self.ignore_index} ignored"
        if self._binary:
            labels = f"labels 0 and {FOREGROUND}"
        elif self.reduce_zero_label:
            labels = f"labels from 1; 0 and {self.ignore_index} ignored"
        return f"{self.name} {folder}: {len(self.categories())} classes, {labels}"

    @cached_property
    def band_names(self) -> tuple[str, ...] | None:
        """Names of ``bands``: their descriptions in the first image, or else their numbers.

        Raises `ImageError` if the first image cannot be read or lacks a band.
        """
        if self.bands is None:
            return None
        path = Path(self.root, self.records()[0].file_name)
        with Raster(path, self._view) as raster:
            numbers = resolve_bands(raster.bands, self.bands)
            return tuple(raster.bands[n - 1].description or str(n) for n in numbers)

    @property
    def _view(self) -> View:
        """Settings with which an image with bands is read."""
        return View(bands=self.bands)

    def records(self) -> list[ImageRecord]:
        """Return all images of the splits that exist.

        Raises:
            DatasetNotFound: the folders are missing, or contain no image of a split.
            LabelError: an image has no label.
        """
        root = Path(self.root)
        records = []
        if (root / "img_dir").is_dir() and (root / "ann_dir").is_dir():
            records = [
                replace(record, file_name=f"img_dir/{record.file_name}", split=split)
                for record in Folder(str(root / "img_dir"), self.name).records()
                if (split := record.file_name.split("/")[0]) in SPLITS
            ]
        if not records:
            raise DatasetNotFound(
                f"no image under {root.absolute()} in the layout {LAYOUT}: found {contents(root)}, "
                f"in img_dir {contents(root / 'img_dir')}; use this layout, or set "
                "dataset.root to the folder that contains img_dir and ann_dir"
            )
        refuse_unlabelled(
            [r.file_name for r in records if _stem(r) not in self._labels],
            len(records),
            f"a {_SUFFIXES} file with the same relative path below {root.absolute() / 'ann_dir'}",
        )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        if self.bands is None:
            return read_sample(self.root, record)
        with Raster(Path(self.root, record.file_name), self._view) as raster:
            return to_sample(record, blank_invalid(raster.read()))

    def findings(self) -> list[Finding]:
        """Return a finding if images have sidecar files, because these are not read."""
        return find_sidecars(path for path, _ in walk(Path(self.root, "img_dir")))

    def categories(self) -> list[Category]:
        """Return the classes; the id is the pixel value."""
        return color_classes(self.classes or [str(i) for i in range(self._num_classes)])

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of one image; raise `LabelError` if it cannot be read."""
        path = self._labels[_stem(record)]
        labels = read_labels(path)
        if self.reduce_zero_label:
            return reduce_zero_label(labels, self.ignore_index, path)
        return binary_to_index(labels) if self._binary else labels

    @cached_property
    def _labels(self) -> dict[str, Path]:
        """Label files by their path relative to ann_dir without the suffix."""
        root = Path(self.root, "ann_dir")
        labels: dict[str, Path] = {}
        for path in sorted(PurePosixPath(path) for path, _ in walk(root)):
            if path.suffix.lower() in LABEL_SUFFIXES:
                other = labels.setdefault(to_nfc(str(path.with_suffix(""))), root / path)
                if other != root / path:
                    raise LabelError(
                        f"{other} and {root / path} are labels of the same image; remove one of "
                        "them"
                    )
        return labels

    @property
    def _paths(self) -> list[Path]:
        """Label file of each image."""
        return [self._labels[_stem(record)] for record in self.records()]

    @cached_property
    def _binary(self) -> bool:
        """Whether 255 is class 1; with two named classes, reading stops at any third value."""
        if self.reduce_zero_label or self.ignore_index == 0:
            return False
        if self.classes is None:
            binary = self._files_by_label.keys() == {0, FOREGROUND}
        else:
            binary = len(self.classes) == 2 and is_binary(label_values(self._paths))
        if binary:
            logger.warning(
                "%s: every label file contains only 0 and %d; %d is read as class 1",
                self.root,
                FOREGROUND,
                FOREGROUND,
            )
        return binary

    @cached_property
    def _files_by_label(self) -> dict[int, Path]:
        """A file that contains the label, by label."""
        paths, files_by_label = self._paths, dict[int, Path]()
        bar = tqdm(label_values(paths), "counting classes", len(paths), unit="label", delay=1)
        for path, numbers in zip(paths, bar, strict=True):
            if isinstance(numbers, LabelError):
                raise numbers
            files_by_label |= dict.fromkeys(numbers - files_by_label.keys(), path)
        return files_by_label

    @cached_property
    def _num_classes(self) -> int:
        """Number of classes: the highest label plus one; all lower labels must occur."""
        if self._binary:
            return 2
        first = 1 if self.reduce_zero_label else 0
        labels = {
            label for label in self._files_by_label if label not in (first - 1, self.ignore_index)
        }
        folder = Path(self.root, "ann_dir")
        if len(labels) < 2:
            raise LabelError(
                f"the labels under {folder} contain only "
                f"{' and '.join(map(str, sorted(self._files_by_label)))}, expected two classes or "
                "more; check that these are the right files"
            )
        highest = max(labels)
        from_one = {*range(1, highest + 1)} - {self.ignore_index}
        if labels == from_one and first == 0 and self.ignore_index != 0:
            raise LabelError(
                f"the labels under {folder} are 1 to {highest}, and no file contains 0; "
                f"dataset.reduce_zero_label=true maps them to the classes 0 to {highest - 1}; if "
                "0 is a class that does not occur, set dataset.classes=[...]"
            )
        if absent := sorted(set(range(first, highest)) - {self.ignore_index} - labels):
            raise LabelError(
                f"the classes cannot be counted: {self._files_by_label[highest]} contains the "
                f"label {highest}, but no file contains {absent[0]}; if {highest} is not a class, "
                f"set dataset.ignore_index={highest}, otherwise set dataset.classes=[...]"
            )
        logger.info(
            "%s has %d classes: the highest label is %d, in %s; set "
            "dataset.classes=[...] to name them and skip the counting",
            self.root,
            highest + 1 - first,
            highest,
            self._files_by_label[highest],
        )
        return highest + 1 - first


def _stem(record: ImageRecord) -> str:
    """Return the path relative to img_dir without the suffix, in NFC."""
    return to_nfc(str(PurePosixPath(record.file_name).relative_to("img_dir").with_suffix("")))
