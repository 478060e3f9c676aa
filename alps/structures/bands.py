"""The bands that a network sees instead of an RGB image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Shaped

#: Names that need no quotes on the command line.
PLAIN_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Mean and standard deviation of each band over the training images, in stored units."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def to_float(
    bands: Shaped[np.ndarray, "C H W"],
    valid: Bool[np.ndarray, "H W"] | None,
    fill: Sequence[int | float],
) -> tuple[Float32[np.ndarray, "C H W"], Bool[np.ndarray, "H W"] | None]:
    """Convert bands of any dtype to float32, and replace the pixels without data.

    Args:
        bands: the values as stored.
        valid: pixels that have data; None: all pixels that are finite in every band.
        fill: value of each band where there is no data.

    Returns:
        The values, and the pixels that have data and are finite in every band; None: all.
    """
    with np.errstate(over="ignore"):  # no-data values of float64 become infinite
        values = bands.astype(np.float32)
    if bands.dtype.kind == "f":
        finite: Bool[np.ndarray, "H W"] = np.logical_and.reduce(np.isfinite(values))
        valid = finite if valid is None else finite & valid
    if valid is None or valid.all():
        return values, None
    values[:, ~valid] = np.asarray(fill, np.float32)[:, None]
    return values, valid


def describe_bands(names: Sequence[str] | None) -> str:
    """Return the names of bands as part of a sentence.

    >>> describe_bands(["B02", "B08"]), describe_bands(None)
    ('the bands B02, B08', 'RGB')
    """
    return "RGB" if names is None else f"the bands {', '.join(names)}"


def describe_setting(names: Sequence[str] | None) -> str:
    """Return the setting of a dataset that selects bands.

    >>> describe_setting(["B02", "near infrared"])
    "dataset.bands=[B02,'near infrared']"
    """
    if names is None:
        return "dataset.bands=null"
    quoted = (name if PLAIN_NAME.fullmatch(name) else f"'{name}'" for name in names)
    return f"dataset.bands=[{','.join(quoted)}]"
