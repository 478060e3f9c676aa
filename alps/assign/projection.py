"""Where features are compared: projected onto their principal components, scaled to length 1."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float32, Float64

from alps.assign.rows import Rows, over_parts
from alps.errors import ConfigError, TooFewMasks
from alps.protocols import Mapper

#: A direction whose variance is below this share of the largest is rounding: whitening does not
#: blow it up to the size of the others.
FLOOR = 1e-6


def unit(rows: Float32[np.ndarray, "n C"]) -> Float32[np.ndarray, "n C"]:
    """Scale every row to length 1; a row of zeros stays as it is."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def project(
    rows: Float32[np.ndarray, "n C"],
    mean: Float32[np.ndarray, " C"] | None,
    components: Float32[np.ndarray, "D C"] | None,
) -> Float32[np.ndarray, "n D"]:
    """Coordinates in a space that `fit_pca` found; None leaves the rows as they are."""
    if mean is None or components is None:
        return rows
    projected: np.ndarray = (rows - mean) @ components.T
    return projected


def fit_pca(
    rows: Rows, dim: int, *, whiten: bool, batch_size: int, mapper: Mapper = map
) -> tuple[Float32[np.ndarray, " C"], Float32[np.ndarray, "D C"]]:
    """Principal components of all rows in one pass, whatever their weights.

    Args:
        rows: read ``batch_size`` at a time; the moments are added up in float64.
        dim: how many components are kept, D.
        whiten: scale them so that each has variance 1 (Jégou & Chum, ECCV 2012, "Negative evidences
            and co-occurrences in image retrieval: the benefit of PCA and whitening").
        batch_size: rows in memory at once.
        mapper: does the parts.

    Returns:
        The mean of the rows, and the components, largest variance first. The sign of each is such
        that its largest entry is positive.

    Raises:
        TooFewMasks: there are no more rows than ``dim``.
        ConfigError: there are fewer channels than ``dim``.
    """
    if len(rows) <= dim:
        raise TooFewMasks(
            f"{len(rows)} masks do not span {dim} components: lower assign.pca below {len(rows)}, "
            "or label more images"
        )
    channels = rows.take(np.zeros(1, np.int64)).shape[1]
    if dim > channels:
        raise ConfigError(
            f"assign.pca is {dim}, but the features have {channels} channels: lower it to "
            f"{channels} at most, or leave the features as they are with assign.pca=null"
        )
    total, products = np.zeros(channels), np.zeros((channels, channels))
    for part in over_parts(mapper, partial(_moments, rows, batch_size), rows.parts(batch_size)):
        total += part[0]
        products += part[1]
    mean = total / len(rows)
    variance, vectors = np.linalg.eigh(products / len(rows) - np.outer(mean, mean))
    variance = variance[: -dim - 1 : -1]  # eigh gives the smallest first
    components: np.ndarray = vectors.T[: -dim - 1 : -1]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(dim), largest])[:, None]
    if whiten:
        components = components / np.sqrt(np.maximum(variance, FLOOR * variance[0]))[:, None]
    return mean.astype(np.float32), components.astype(np.float32)


def _moments(
    rows: Rows, batch_size: int, part: tuple[int, int]
) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, "C C"]]:
    """Sums of the rows of a part and of their products."""
    sums: list[np.ndarray] = []
    for index in rows.chunks(batch_size, *part):
        chunk = rows.take(index).astype(np.float64)
        new = [chunk.sum(axis=0), chunk.T @ chunk]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
    total, products = sums
    return total, products
