"""Parts of a training set that are the same in every run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from alps.errors import ConfigError
from alps.protocols import LabelledSet
from alps.structures.numbers import check_number
from alps.structures.records import ImageRecord

logger = logging.getLogger(__name__)


def fraction(
    images: LabelledSet, records: Sequence[ImageRecord], fraction: float, seed: int
) -> list[ImageRecord]:
    """A share of the images that holds all classes where it can; smaller shares lie within larger.

    The images are shuffled; those that bring a class not seen before go to the front; the share is
    the beginning of this list. Labels are read until all classes are seen or the share is full.

    Args:
        images: where the labels are.
        records: the images to choose from.
        fraction: in (0, 1]; at least one image is taken.
        seed: of the shuffling.

    Returns:
        The chosen ones in their old order.

    Raises:
        ConfigError: the fraction is not in (0, 1].
        LabelError: a label cannot be used.
    """
    check_number("data.fraction", fraction, "(0, 1]", "a share of the images")
    if fraction == 1:
        return list(records)
    n = max(1, round(fraction * len(records)))
    names = {category.id: category.name for category in images.categories()}
    order = np.random.default_rng(seed).permutation(len(records)).tolist()

    first: list[int] = []
    missing = set(names)
    for i in tqdm(order, desc="classes of the subset", unit="image", delay=1, leave=False):
        if not missing or len(first) == n:
            break
        found = missing.intersection(np.unique(images.read_target(records[i])).tolist())
        if found:
            first.append(i)
            missing -= found
    if missing:
        some = ", ".join(names[i] for i in sorted(missing)[:5])
        logger.warning(
            "the %d of %d images of data.fraction=%g hold %d of %d classes, not %s%s",
            n,
            len(records),
            fraction,
            len(names) - len(missing),
            len(names),
            some,
            ", …" if len(missing) > 5 else "",
        )
    chosen = [*dict.fromkeys([*first, *order])][:n]
    return [records[i] for i in sorted(chosen)]


def hold_out(
    records: Sequence[ImageRecord], fraction: float, seed: int, at_most: int = 500
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Set images aside for validation where a store has no such split.

    Args:
        records: all images.
        fraction: to set aside, in (0, 1); at least one image, and one stays.
        seed: of the choice.
        at_most: images set aside: more make validation slow and its figures hardly surer.

    Returns:
        (train, val), both in their old order.

    Raises:
        ConfigError: the fraction is not in (0, 1), or there are fewer than two images.
    """
    check_number("data.hold_out", fraction, "(0, 1)", "a share of the images")
    if len(records) < 2:
        raise ConfigError(
            f"cannot hold out images for validation: there are {len(records)}, expected two at "
            "least; label more images"
        )
    n = min(max(1, round(fraction * len(records))), at_most, len(records) - 1)
    aside = set(np.random.default_rng(seed).permutation(len(records))[:n].tolist())
    train = [record for i, record in enumerate(records) if i not in aside]
    return train, [records[i] for i in sorted(aside)]
