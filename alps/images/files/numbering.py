"""Convert label files that number classes from 0, from 1, or as 0 and 255."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from alps.errors import LabelError
from alps.images.files.labels import Labels, read_labels

#: Foreground value of binary masks in many programs.
FOREGROUND = 255
#: Number of files that are read ahead.
FILES_AHEAD = 64


def label_values(paths: Sequence[Path]) -> Iterator[set[int] | LabelError]:
    """Read the values of label files in parallel, and yield them in the order of the files.

    The first file is read alone, because its values often suffice for the caller.

    Yields:
        The set of values of each file, or the error if the file cannot be read.
    """

    def values(path: Path) -> set[int] | LabelError:
        try:
            return set(np.unique(read_labels(path)).tolist())
        except LabelError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in (-FILES_AHEAD + 1, *range(1, len(paths), FILES_AHEAD)):
            yield from pool.map(values, paths[max(0, start) : start + FILES_AHEAD])


def is_binary(value_sets: Iterable[set[int] | LabelError]) -> bool:
    """Return whether the only values in label files are 0 and 255, and both occur.

    Reading stops at the first other value. Unreadable files are skipped; they are reported when
    the label is used.

    Args:
        value_sets: results of `label_values`.

    Returns:
        True if both values occur and no others.
    """
    all_values: set[int] = set()
    for values in value_sets:
        if not isinstance(values, LabelError):
            all_values |= values
        if not all_values <= {0, FOREGROUND}:
            return False
    return all_values == {0, FOREGROUND}


def binary_to_index(labels: Labels) -> Labels:
    """Replace 255 by 1.

    >>> binary_to_index(np.array([[0, 255]], np.uint8))
    array([[0, 1]], dtype=uint8)

    Returns:
        The index map with the classes 0 and 1.
    """
    return np.where(labels == FOREGROUND, labels.dtype.type(1), labels)


def reduce_zero_label(labels: Labels, ignore_index: int, path: Path) -> Labels:
    """Map 0 to ``ignore_index`` and 1..n to 0..n-1, like mmsegmentation's ``reduce_zero_label``.

    >>> reduce_zero_label(np.array([[0, 1, 2, 255]], np.uint8), 255, Path("x.png"))
    array([[255,   0,   1, 255]], dtype=uint8)

    Args:
        labels: index map, (H, W).
        ignore_index: label of ignored pixels; it is not changed.
        path: source file, for messages.

    Returns:
        The converted index map.

    Raises:
        LabelError: a label would become ``ignore_index``.
    """
    if (labels == ignore_index + 1).any():
        raise LabelError(
            f"{path} contains the label {ignore_index + 1}, which dataset.reduce_zero_label=true "
            f"would map to the ignored {ignore_index}; change dataset.ignore_index"
        )
    ignored = (labels == 0) | (labels == ignore_index)
    dtype = np.result_type(labels.dtype, np.min_scalar_type(ignore_index))
    return np.where(ignored, dtype.type(ignore_index), labels - 1).astype(dtype)
