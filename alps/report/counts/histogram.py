"""Histograms with fixed bins."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64


def empty_histogram(edges: np.ndarray) -> Int64[np.ndarray, " B"]:
    """Return a count of zero for each bin between ``edges``."""
    return np.zeros(len(edges) - 1, np.int64)


def half_above(counts: Int64[np.ndarray, " B"], edges: np.ndarray) -> float:
    """Return the last edge with at least half of the counts above it."""
    above = np.cumsum(counts[::-1])[::-1]
    return float(edges[int(np.flatnonzero(2 * above >= above[0])[-1])])


def half_below(counts: Int64[np.ndarray, " B"], edges: np.ndarray) -> float:
    """Return the first edge with at least half of the counts below it."""
    below = np.cumsum(counts)
    return float(edges[1 + int(np.searchsorted(below, below[-1] / 2))])
