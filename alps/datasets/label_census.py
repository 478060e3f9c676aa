"""Check, before training, which classes occur in the labels of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from alps.errors import LabelError
from alps.protocols import LabelledSet
from alps.structures.findings import Finding
from alps.structures.records import ImageRecord

#: Maximum number of labels of a split to read. Classes that do not occur in them are reported.
MAX_LABELS = 500
#: Maximum number of classes that a message names.
MAX_NAMED = 5
#: Consequences and remedies of classes that are missing in the training split, or in a split for
#: scores.
TRAIN_REMEDY = (
    "the model cannot learn them: check the labels, and the list of classes of the dataset"
)
SCORE_REMEDY = "mean scores exclude them: add images with these classes"


@dataclass(frozen=True, slots=True)
class SplitLabels:
    """Classes that occur in the labels of a split.

    Args:
        split: name of the split.
        numbers: the values that occur, except the ignore index.
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
    images: LabelledSet,
    records: Sequence[ImageRecord],
    split: str,
    *,
    max_labels: int | None = MAX_LABELS,
) -> SplitLabels:
    """Read labels until every class has occurred, or ``max_labels`` are read.

    If all classes are common, only a few files are read. As long as no pixel is labelled, reading
    continues beyond ``max_labels``, so that a split without labels is always detected.

    Args:
        images: the labelled set.
        records: the images of the split.
        split: name of the split.
        max_labels: maximum number of labels to read. None: all.

    Returns:
        The classes that occur.

    Raises:
        LabelError: a label cannot be read, or no pixel of the split is labelled.
    """
    classes = _names(images).keys()
    max_labels = len(records) if max_labels is None else max_labels
    numbers: set[int] = set()
    read = 0
    # Files may be sorted by class.
    order = np.random.default_rng(0).permutation(len(records)).tolist()
    for i in tqdm(order, f"classes in {split}", unit="label", delay=1, leave=False):
        if classes <= numbers or (numbers and read >= max_labels):
            break
        numbers |= {*np.unique(images.read_target(records[i])).tolist()} - {images.ignore_index}
        read += 1
    if records and not numbers:
        raise LabelError(_describe_unlabelled(images, split, len(records)))
    return SplitLabels(split, frozenset(numbers), read, len(records))


def _describe_unlabelled(images: LabelledSet, split: str, n: int) -> str:
    """Return the message for a split of ``n`` labels in which every pixel is ignored."""
    return (
        f"{images.name}: no pixel of {split} is labelled: all {n} labels contain only "
        f"{images.ignore_index}, which is ignored; check how they were made (255 used as a class, "
        "objects marked as crowds), or change dataset.ignore_index"
    )


def missing_classes(images: LabelledSet, splits: Sequence[SplitLabels]) -> list[Finding]:
    """Return findings about classes that do not occur in a split, and labels that start at 1."""
    names = _names(images)
    values = frozenset[int]().union(*(split.numbers for split in splits))
    findings = []
    if getattr(images, "reduce_zero_label", None) is False and values and 0 not in values:
        labels = " or of ".join(map(str, splits))
        findings.append(
            Finding(
                "labels_from_1",
                1,
                f"no pixel of {labels} is 0, the lowest value is {min(values)}",
                "if the labels 1..n are the classes 0..n-1, set dataset.reduce_zero_label=true",
            )
        )
    for split in splits:
        missing = [name for i, name in names.items() if i not in split.numbers]
        if missing and split.images:
            listed = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else "")
            findings.append(
                Finding(
                    f"class_not_in_{split.split}",
                    len(missing),
                    f"{len(missing)} of {len(names)} classes do not occur in {split}: {listed}",
                    TRAIN_REMEDY if split.split == "train" else SCORE_REMEDY,
                )
            )
    return findings


def _names(images: LabelledSet) -> dict[int, str]:
    """Return the names of the classes by id, except an ignored class."""
    categories = images.categories()
    return {c.id: c.name for c in categories if c.id != images.ignore_index}
