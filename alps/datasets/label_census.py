"""Which classes the labels of a split hold, before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from alps.errors import LabelError
from alps.protocols import LabelledSet
from alps.structures.findings import Finding
from alps.structures.records import ImageRecord

#: Labels of a split that are read to find each class. Where one is missing in them, it is said of
#: these labels only.
ENOUGH = 500
#: Classes named in a message.
NAMED = 5
#: What to do about classes that are missing.
LEARNT = "they cannot be learnt: check the labels, and the classes of the dataset"
SCORED = "the scores are means without them: score on more images, or on others"


@dataclass(frozen=True, slots=True)
class SplitLabels:
    """What the labels of a split hold.

    Args:
        split: its name.
        numbers: the values found, without the ignored one.
        read: how many labels were read.
        images: how many there are.
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
    """Read labels until every class was found, ``enough`` were read, or there are no more.

    While no labelled pixel was found it goes on beyond ``enough``, so that a split without any is
    known for certain. Where all classes are common this reads a handful of files.

    Raises:
        LabelError: a label cannot be read, or no pixel of the split is labelled.
    """
    classes = _names(images).keys()
    enough = len(records) if enough is None else enough
    numbers: set[int] = set()
    read = 0
    order = np.random.default_rng(0).permutation(len(records)).tolist()  # files lie by classes
    for i in tqdm(order, f"classes in {split}", unit="label", delay=1, leave=False):
        if classes <= numbers or (numbers and read >= enough):
            break
        numbers |= {*np.unique(images.read_target(records[i])).tolist()} - {images.ignore_index}
        read += 1
    if records and not numbers:
        raise no_labelled_pixel(images, split, len(records))
    return SplitLabels(split, frozenset(numbers), read, len(records))


def no_labelled_pixel(images: LabelledSet, split: str, n: int) -> LabelError:
    """Return the error of a split in which every pixel is ignored."""
    return LabelError(
        f"{images.name}: no pixel of {split} is labelled, each label ({n} in all) holds nothing "
        f"but {images.ignore_index}, which is ignored; check how they were made (255 as a class, "
        "objects marked as crowds) and give others, or another dataset.ignore_index"
    )


def missing_classes(images: LabelledSet, splits: Sequence[SplitLabels]) -> list[Finding]:
    """Return which classes never occur in a split; with a remedy of its own, labels from 1 on."""
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
    """The classes that can be learnt; one of them may be ignored."""
    categories = images.categories()
    return {c.id: c.name for c in categories if c.id != images.ignore_index}
