"""Reproducible subsets of a training set."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from alps.datasets.limits import DATA
from alps.errors import ConfigError
from alps.protocols import LabelledSet
from alps.structures.records import ImageRecord
from alps.structures.settings import check_settings
from alps.structures.tiles import Tile

logger = logging.getLogger(__name__)


def fraction(
    images: LabelledSet, records: Sequence[ImageRecord], fraction: float, seed: int
) -> list[ImageRecord]:
    """Return a fraction of the images that contains all classes if possible.

    The images are shuffled, and images with a class that earlier images lack move to the front. The
    subset is the beginning of this list, so a smaller subset is part of a larger one. Labels are
    read until all classes have occurred or the subset is complete.

    Args:
        images: the labelled set.
        records: the images to choose from.
        fraction: fraction of the images in (0, 1]; at least one image is returned.
        seed: seed of the permutation.

    Returns:
        The chosen images in their original order.

    Raises:
        ConfigError: the fraction is not in (0, 1].
        LabelError: a label cannot be read.
    """
    check_settings(DATA, {"fraction": fraction})
    if fraction == 1:
        return list(records)
    n = max(1, round(fraction * len(records)))
    names = {category.id: category.name for category in images.categories()}
    order = np.random.default_rng(seed).permutation(len(records)).tolist()

    leading: list[int] = []
    missing = set(names)
    for i in tqdm(order, desc="classes of the subset", unit="image", delay=1, leave=False):
        if not missing or len(leading) == n:
            break
        new_classes = missing.intersection(np.unique(images.read_target(records[i])).tolist())
        if new_classes:
            leading.append(i)
            missing -= new_classes
    if missing:
        names_of_missing = ", ".join(names[i] for i in sorted(missing)[:5])
        logger.warning(
            "the %d of %d images of data.fraction=%g contain %d of %d classes; missing: %s%s",
            n,
            len(records),
            fraction,
            len(names) - len(missing),
            len(names),
            names_of_missing,
            ", …" if len(missing) > 5 else "",
        )
    chosen = [*dict.fromkeys([*leading, *order])][:n]
    return [records[i] for i in sorted(chosen)]


def hold_out(
    records: Sequence[ImageRecord], fraction: float, seed: int, max_images: int = 500
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Select images for validation, for a dataset without a validation split.

    Of rasters, whole ones are selected if possible, and a connected part of at most one. Windows
    that overlap this part are used neither for training nor for validation.

    Args:
        records: all images.
        fraction: fraction for validation in (0, 1); at least one image is used for each of training
            and validation.
        seed: seed of the selection.
        max_images: maximum number of validation images; more images slow validation down and hardly
            make the scores more precise.

    Returns:
        The training and the validation images, both in their original order.

    Raises:
        ConfigError: the fraction is not in (0, 1), there are fewer than two images, or all windows
            overlap those for validation.
    """
    check_settings(DATA, {"hold_out": fraction})
    if len(records) < 2:
        raise ConfigError(
            f"cannot hold out images for validation: the number of images is {len(records)}, "
            "expected at least two; label more images"
        )
    n = min(max(1, round(fraction * len(records))), max_images, len(records) - 1)
    if all(record.window is not None for record in records):
        return _hold_out_windows(records, n, seed)
    held_out = set(np.random.default_rng(seed).permutation(len(records))[:n].tolist())
    train = [record for i, record in enumerate(records) if i not in held_out]
    return train, [records[i] for i in sorted(held_out)]


def _hold_out_windows(
    records: Sequence[ImageRecord], n: int, seed: int
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Select ``n`` windows: those of shuffled rasters, in the order of each raster."""
    names = [*dict.fromkeys(record.file_name for record in records)]
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    rank = dict(zip(names, np.argsort(order).tolist(), strict=True))
    shuffled = sorted(range(len(records)), key=lambda i: rank[records[i].file_name])
    last = records[shuffled[n - 1]].file_name  # the raster of which a part may be selected
    part = [records[i].window for i in shuffled[:n] if records[i].file_name == last]
    train = [
        i
        for i in shuffled[n:]
        if records[i].file_name != last or not _overlaps_any(records[i].window, part)
    ]
    unused = len(records) - n - len(train)
    if not train:
        raise ConfigError(
            f"cannot hold out windows for validation: the other {unused} of {len(records)} windows "
            "overlap them; use more or larger rasters, or a smaller dataset.window or "
            "dataset.overlap"
        )
    logger.info(
        "validation on %d of %d windows, from %d of %d rasters; %d windows that overlap them are "
        "not used",
        *(n, len(records), rank[last] + 1, len(names), unused),
    )
    return [records[i] for i in sorted(train)], [records[i] for i in sorted(shuffled[:n])]


def _overlaps_any(window: Tile | None, others: Sequence[Tile | None]) -> bool:
    """Return whether a window overlaps one of several windows of the same raster."""
    return window is not None and any(
        other is not None and window.intersect(other) is not None for other in others
    )
