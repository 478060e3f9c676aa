"""Images and index maps in two folders of the same structure, as mmsegmentation wants them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from alps.errors import ConfigError, DatasetNotFound, LabelError
from alps.images.folder import Folder, contents, walk
from alps.images.ids import normal
from alps.images.labels import LABEL_SUFFIXES, Labels, read_labels, refuse_unlabelled
from alps.images.read import read_sample
from alps.palette import color_classes
from alps.types import Category, ImageRecord, Sample

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
_SUFFIXES = " or ".join(LABEL_SUFFIXES)
LAYOUT = "img_dir/{train,val,test}/ and ann_dir/{train,val,test}/"


class FolderPair:
    """``img_dir/<split>/x.jpg`` with ``ann_dir/<split>/x.png``, at any depth below the split.

    Splits are train, val and test, those that are there. The id of an image is its path below
    img_dir without the suffix, ``train/x``: one name may occur in several splits.

    Args:
        root: the folder that holds img_dir and ann_dir.
        name: what the image set is called.
        classes: names of the classes, in the order of their numbers. None: they are counted, which
            reads every label once.
        ignore_index: the label value that is neither learnt nor scored.

    Raises:
        ConfigError: ``classes`` is no list of different names.
    """

    def __init__(
        self,
        *,
        root: str,
        name: str = "folder_pair",
        classes: Sequence[str] | None = None,
        ignore_index: int = 255,
    ) -> None:
        if isinstance(classes, str) or len({*(classes or ())}) < len(classes or ()):
            raise ConfigError(
                f"dataset.classes={classes}: expected a list of different names, one per class, as "
                "[road,tree,water]"
            )
        self.root = root
        self.name = name
        self.classes = classes
        self.ignore_index = ignore_index

    @property
    def protocol(self) -> str:
        """How scores are to be read."""
        folder = Path(self.root).resolve().name
        ignored = f"label {self.ignore_index} ignored"
        return f"{self.name} {folder}: {len(self.categories())} classes, {ignored}"

    def records(self) -> list[ImageRecord]:
        """All images of the splits that are there.

        Raises:
            DatasetNotFound: the folders are not there, or hold no image of a split.
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
                f"in img_dir {contents(root / 'img_dir')}; arrange the files so, or give the "
                "folder that holds img_dir and ann_dir as dataset.root"
            )
        refuse_unlabelled(
            [r.file_name for r in records if _stem(r) not in self._labels],
            len(records),
            f"each below {root.absolute() / 'ann_dir'} as below img_dir, as {_SUFFIXES}",
        )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Decode one image; raises `ImageError` when it cannot be used."""
        return read_sample(self.root, record)

    def categories(self) -> list[Category]:
        """The classes; the id is the pixel value."""
        return color_classes(self.classes or [str(i) for i in range(self._num_classes)])

    def read_target(self, record: ImageRecord) -> Labels:
        """The index map of one image; raises `LabelError` when it cannot be used."""
        return read_labels(self._labels[_stem(record)])

    @cached_property
    def _labels(self) -> dict[str, Path]:
        """Label files by their path below ann_dir without the suffix."""
        root = Path(self.root, "ann_dir")
        labels: dict[str, Path] = {}
        for path in sorted(PurePosixPath(path) for path, _ in walk(root)):
            if path.suffix.lower() in LABEL_SUFFIXES:
                other = labels.setdefault(normal(str(path.with_suffix(""))), root / path)
                if other != root / path:
                    raise LabelError(
                        f"{other} and {root / path} are labels of one image; remove one of them"
                    )
        return labels

    @cached_property
    def _num_classes(self) -> int:
        """One more than the highest label; every number below it must occur."""

        def values(path: Path) -> set[int]:
            return set(np.unique(read_labels(path)).tolist()) - {self.ignore_index}

        paths = [self._labels[_stem(record)] for record in self.records()]
        holders: dict[int, Path] = {}
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(values, paths)
            bar = tqdm(found, "counting classes", len(paths), unit="label", delay=1)
            for path, numbers in zip(paths, bar, strict=True):
                holders |= dict.fromkeys(numbers - holders.keys(), path)
        top = max(holders, default=0)
        if top == 0:
            raise LabelError(
                f"the labels under {Path(self.root, 'ann_dir')} hold no number but 0 and "
                f"{self.ignore_index} (which is ignored), expected two classes or more; where "
                f"{self.ignore_index} is a class, give another number as dataset.ignore_index"
            )
        if gap := sorted(set(range(top)) - {self.ignore_index} - holders.keys()):
            raise LabelError(
                f"the classes cannot be counted: {holders[top]} holds the label {top}, but no file "
                f"holds {gap[0]}; where {top} is no class, give dataset.ignore_index={top}, else "
                "name the classes by dataset.classes=[...]"
            )
        logger.info(
            "%s has %d classes: the highest label is %d, in %s; dataset.classes=[...] names them "
            "and saves the counting",
            self.root,
            top + 1,
            top,
            holders[top],
        )
        return top + 1


def _stem(record: ImageRecord) -> str:
    """The path below img_dir without the suffix, composed as `normal` does."""
    return normal(str(PurePosixPath(record.file_name).relative_to("img_dir").with_suffix("")))
