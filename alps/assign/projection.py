"""Projection of features onto their principal components, and scaling to length 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

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
    rows: Rows,
    dim: int,
    *,
    whiten: float,
    batch_size: int,
    groups: Sequence[int] | None = None,
    mapper: Mapper = map,
) -> tuple[Float32[np.ndarray, " C"], Float32[np.ndarray, "D C"]]:
    """Compute the principal components of all rows in one pass.

    Args:
        rows: features, whose moments are added in float64; weights count with ``groups`` only.
        dim: number of components, D; with ``groups`` that of each group, or all of a smaller one.
        whiten: power of its standard deviation by which a component is divided: 0 leaves the
            components as they are, 1 gives all the same variance (Jégou & Chum, ECCV 2012,
            "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
            whitening").
        batch_size: number of rows in memory at a time.
        groups: numbers of channels of the parts of a row, each with its own components; None: the
            components mix all channels.
        mapper: maps a function over the parts of the rows.

    Returns:
        The mean of the rows, and the components, of each group in descending order of variance. The
        sign of a component is such that its entry of largest magnitude is positive.

    Raises:
        TooFewMasks: without ``groups``, the number of rows does not exceed ``dim``.
        ConfigError: there are fewer channels than ``dim``, or not as many as in ``groups``.
    """
    if groups is None and len(rows) <= dim:
        raise TooFewMasks(
            f"{len(rows)} masks are too few for {dim} components: set assign.pca below {len(rows)} "
            "or label more images"
        )
    channels = rows.take(np.zeros(1, np.int64)).shape[1]
    if groups is None and dim > channels:
        raise ConfigError(
            f"assign.pca is {dim}, but the features have {channels} channels: lower it to "
            f"{channels} at most, or skip the projection with assign.pca=null"
        )
    if groups is not None and sum(groups) != channels:
        raise ConfigError(
            f"assign.channel_groups={list(groups)} has {sum(groups)} channels, but the features "
            f"have {channels}; expected the channels of each part of the features, or null"
        )
    mean, covariance = _moments(rows if groups else rows.unweighted(), batch_size, mapper)
    sizes = groups or [channels]
    stops = np.cumsum(sizes)
    components = np.zeros((sum(min(dim, size) for size in sizes), channels))
    row = 0
    for size, stop in zip(sizes, stops.tolist(), strict=True):
        channel, n = slice(stop - size, stop), min(dim, size)
        components[row : row + n, channel] = _components(covariance[channel, channel], n, whiten)
        row += n
    return mean.astype(np.float32), components.astype(np.float32)


def unit_groups(
    rows: Float32[np.ndarray, "n D"], sizes: Sequence[int]
) -> Float32[np.ndarray, "n D"]:
    """Scale each group of channels of every row to length 1; ``sizes`` are those of the groups."""
    groups = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return np.concatenate([unit(group) for group in groups], axis=1)


def _components(
    covariance: Float64[np.ndarray, "C C"], dim: int, whiten: float
) -> Float64[np.ndarray, "D C"]:
    """Return the first components of a covariance."""
    variance, vectors = np.linalg.eigh(covariance)
    variance = variance[: -dim - 1 : -1]  # eigh returns the smallest first
    components: np.ndarray = vectors.T[: -dim - 1 : -1]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(dim), largest])[:, None]
    if whiten:
        deviation = np.sqrt(np.maximum(variance, MIN_VARIANCE * variance[0]))
        components = components / (deviation if whiten == 1 else deviation**whiten)[:, None]
    return components


def _moments(
    rows: Rows, batch_size: int, mapper: Mapper
) -> tuple[Float64[np.ndarray, " C"], Float64[np.ndarray, "C C"]]:
    """Return the mean and the covariance of all rows with their weights."""
    sums = map_parts(mapper, partial(_sum_part, rows, batch_size), rows.parts(batch_size))
    mass, total, products = (np.sum(of_parts, axis=0) for of_parts in zip(*sums, strict=True))
    mean = total / mass
    return mean, products / mass - np.outer(mean, mean)


def _sum_part(
    rows: Rows, batch_size: int, part: tuple[int, int]
) -> tuple[np.float64, Float64[np.ndarray, " C"], Float64[np.ndarray, "C C"]]:
    """Return the sums of the weights, the rows and their outer products in a part of the rows."""
    sums: list[Any] = []
    for index in rows.chunks(batch_size, *part):
        chunk = rows.take(index).astype(np.float64)
        weight = rows.weights(index).astype(np.float64)[:, None]
        root = chunk * np.sqrt(weight)
        new = [weight.sum(), (chunk * weight).sum(axis=0), root.T @ root]
        sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
    mass, total, products = sums
    return mass, total, products
