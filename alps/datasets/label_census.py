"""A check, before training, of which classes occur in the labels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from alps.errors import LabelError
from alps.protocols import LabelledSet
from alps.structures.findings import Finding
from alps.structures.records import ImageRecord

#: Number of labels of a split to read in search of all classes. A class that is not found is
#: reported as missing in these labels only.
ENOUGH = 500
#: Number of classes named in a message.
NAMED = 5
#: Consequence and remedy of classes missing in the training or another split.
LEARNT = "they cannot be learnt: check the labels, and the classes of the dataset"
SCORED = "the scores are means without them: score on more images, or on others"


@dataclass(frozen=True, slots=True)
class SplitLabels:
    """Classes found in the labels of a split.

    Args:
        split: name of the split.
        numbers: values found, without the ignored one.
        read: number of labels that were read.
        images: number of images of the split.
    """

    split: str
    numbers: frozenset[int]
    read: int
    images: int

    def __str__(self) -> str:
        if self.read == self.images:
            return f"the {self.images} labels of {self.split}"
        return f"{self.read} of the {self.images} labels of {self.split}"


def read_split(
    images: LabelledSet, records: Sequence[ImageRecord], split: str, *, enough: int | None = ENOUGH
) -> SplitLabels:
    """Read labels until every class is found, ``enough`` are read, or none remain.

    If all classes are common, this reads a handful of files. It continues beyond ``enough`` as
    long as no labelled pixel is found, to be certain about a split without any.

    Args:
        images: the labelled set.
        records: the images of the split.
        split: name of the split.
        enough: number of labels to read at most; None: all.

    Raises:
        LabelError: a label cannot be read, or no pixel of the split is labelled.
    """
    classes = _names(images).keys()
    enough = len(records) if enough is None else enough
    numbers: set[int] = set()
    read = 0
    order = np.random.default_rng(0).permutation(len(records)).tolist()  # files are sorted by class
    for i in tqdm(order, f"classes in {split}", unit="label", delay=1, leave=False):
        if classes <= numbers or (numbers and read >= enough):
            break
        numbers |= {*np.unique(images.read_target(records[i])).tolist()} - {images.ignore_index}
        read += 1
    if records and not numbers:
        raise no_labelled_pixel(images, split, len(records))
    return SplitLabels(split, frozenset(numbers), read, len(records))


def no_labelled_pixel(images: LabelledSet, split: str, n: int) -> LabelError:
    """Return the error of a split in which every pixel is ignored.

    Args:
        images: the labelled set.
        split: name of the split.
        n: number of labels of the split.
    """
    return LabelError(
        f"{images.name}: no pixel of {split} is labelled, each label ({n} in all) holds nothing "
        f"but {images.ignore_index}, which is ignored; check how they were made (255 as a class, "
        "objects marked as crowds) and give others, or another dataset.ignore_index"
    )


def missing_classes(images: LabelledSet, splits: Sequence[SplitLabels]) -> list[Finding]:
    """Return findings on classes that never occur in a split, and on labels that start at 1."""
    names = _names(images)
    found = frozenset[int]().union(*(split.numbers for split in splits))
    findings = []
    if getattr(images, "reduce_zero_label", None) is False and found and 0 not in found:
        where = " or of ".join(map(str, splits))
        findings.append(
            Finding(
                "labels_from_1",
                1,
                f"no pixel of {where} is 0, the lowest number is {min(found)}",
                "where the labels 1..n are the classes 0..n-1, give dataset.reduce_zero_label=true",
            )
        )
    for split in splits:
        missing = [name for i, name in names.items() if i not in split.numbers]
        if missing and split.images:
            some = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
            findings.append(
                Finding(
                    f"class_not_in_{split.split}",
                    len(missing),
                    f"{len(missing)} of {len(names)} classes do not occur in {split}: {some}",
                    LEARNT if split.split == "train" else SCORED,
                )
            )
    return findings


def _names(images: LabelledSet) -> dict[int, str]:
    """Return the names of the classes by id, without an ignored one."""
    categories = images.categories()
    return {c.id: c.name for c in categories if c.id != images.ignore_index}
