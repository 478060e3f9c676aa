"""Projection of features onto their principal components, and scaling to length 1."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float32, Float64

from alps.assign.rows import Rows, map_parts
from alps.errors import ConfigError, TooFewMasks
from alps.protocols import Mapper

#: Components with a variance below this fraction of the largest are rounding noise, which whitening
#: does not amplify to variance 1.
MIN_VARIANCE = 1e-6


def unit(rows: Float32[np.ndarray, "n C"]) -> Float32[np.ndarray, "n C"]:
    """Scale every row to length 1; rows of zeros are unchanged."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def project(
    rows: Float32[np.ndarray, "n C"],
    mean: Float32[np.ndarray, " C"] | None,
    components: Float32[np.ndarray, "D C"] | None,
) -> Float32[np.ndarray, "n D"]:
    """Return rows projected onto principal components.

    Args:
        rows: features.
        mean: mean from `fit_pca`; None returns the rows unchanged.
        components: components from `fit_pca`; None returns the rows unchanged.
    """
    if mean is None or components is None:
        return rows
    projected: np.ndarray = (rows - mean) @ components.T
    return projected


def fit_pca(
    rows: Rows, dim: int, *, whiten: bool, batch_size: int, mapper: Mapper = map
) -> tuple[Float32[np.ndarray, " C"], Float32[np.ndarray, "D C"]]:
    """Compute the principal components of all rows in one pass, ignoring their weights.

    Args:
        rows: features, whose moments are added in float64.
        dim: number of components, D.
        whiten: scale the components so that each has variance 1 (Jégou & Chum, ECCV 2012,
            "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
            whitening").
        batch_size: number of rows in memory at a time.
        mapper: maps a function over the parts of the rows.

    Returns:
        The mean of the rows, and the components in descending order of variance. The sign of a
        component is such that its entry of largest magnitude is positive.

    Raises:
        TooFewMasks: the number of rows does not exceed ``dim``.
        ConfigError: there are fewer channels than ``dim``.
    """
    if len(rows) <= dim:
        raise TooFewMasks(
            f"{len(rows)} masks are too few for {dim} components: set assign.pca below {len(rows)} "
            "or label more images"
        )
    channels = rows.take(np.zeros(1, np.int64)).shape[1]
    if dim > channels:
        raise ConfigError(
            f"assign.pca is {dim}, but the features have {channels} channels: lower it to "
            f"{channels} at most, or skip the projection with assign.pca=null"
        )
    total, products = np.zeros(channels), np.zeros((channels, channels))
    for part in map_parts(mapper, partial(_moments, rows, batch_size), rows.parts(batch_size)):
        total += part[0]
        products += part[1]
    mean = total / len(rows)
    variance, vectors = np.linalg.eigh(products / len(rows) - np.outer(mean, mean))
    variance = variance[: -dim - 1 : -1]  # eigh returns the smallest first
    components: np.ndarray = vectors.T[: -dim - 1 : -1]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(dim), largest])[:, None]
    if whiten:
        components = components / np.sqrt(np.maximum(variance, MIN_VARIANCE * variance[0]))[:, None]
    return mean.astype(np.float32), components.astype(np.float32)


def _moments(
    rows: Rows, batch_size: int, part: tuple[int, int]
) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, "C C"]]:
    """Return the sum of the rows of a part, and the sum of their outer products."""
    sums: list[np.ndarray] = []
    for index in rows.chunks(batch_size, *part):
        chunk = rows.take(index).astype(np.float64)
        new = [chunk.sum(axis=0), chunk.T @ chunk]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
    total, products = sums
    return total, products
