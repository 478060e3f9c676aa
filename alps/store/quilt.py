"""Join index maps of overlapping windows along paths on which they agree.

This is image quilting (Efros & Freeman, SIGGRAPH 2001) for classes: of all paths through the
overlap, the one with the fewest changes of class is found by dynamic programming. Straight seams at
the edges of windows would be seen in maps and learnt by networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Integer

#: Maximum width of the strip around the edge of two cores in which the path lies, px.
WIDTH = 128
#: Weight of random costs, which bend paths through ground on which the maps disagree everywhere.
NOISE = 0.25
#: Number of rows of a strip whose costs are in memory.
ROWS = 1024


def strip_at(edge: int, overlap: tuple[int, int], cores: tuple[int, int]) -> tuple[int, int]:
    """Return the strip around the edge of two cores in which the seam lies.

    Args:
        edge: end of the first core and start of the second one, px.
        overlap: start and stop of the overlap of the two windows, px.
        cores: start of the first core and stop of the second one, px.

    Returns:
        Start and stop of the strip. Strips of successive edges do not overlap.
    """
    before = min(edge - overlap[0], WIDTH // 2, (edge - cores[0]) // 2)
    after = min(overlap[1] - edge, WIDTH // 2, (cores[1] - edge) // 2)
    return edge - before, edge + after


def choose_second(
    first: Integer[np.ndarray, "L W"], second: Integer[np.ndarray, "L W"], seed: int
) -> Bool[np.ndarray, "L W"]:
    """Return where the second of two maps of a strip is used; it lies at higher columns.

    Args:
        first: classes of the strip according to the first window.
        second: classes according to the second window.
        seed: seed of the random costs.

    Returns:
        False left of the path and True right of it; the path leads from the first row to the last.
    """
    length, width = first.shape
    if width < 2:
        return np.ones(first.shape, bool)
    # Column p of the costs is a path between the pixels p and p + 1.
    total = np.zeros(width - 1, np.float32)
    padded = np.full(width + 1, np.inf, np.float32)
    steps = np.zeros((length, width - 1), np.int8)
    for row, costs in enumerate(_costs(first, second, seed)):
        if row:
            padded[1:-1] = total
            around = np.stack([padded[:-2], padded[1:-1], padded[2:]])
            steps[row] = around.argmin(axis=0) - 1
            costs += around.min(axis=0)
        total = costs
    path = np.empty(length, np.int64)
    path[-1] = total.argmin()
    for row, previous in pairwise(range(length - 1, -1, -1)):
        path[previous] = path[row] + steps[row, path[row]]
    return np.arange(width) > path[:, None]


def _costs(
    first: Integer[np.ndarray, "L W"], second: Integer[np.ndarray, "L W"], seed: int
) -> Iterator[Float32[np.ndarray, " V"]]:
    """Yield the costs of each row; strips are as long as rasters, so some rows at a time."""
    rng = np.random.default_rng(seed)
    for top in range(0, len(first), ROWS):
        rows = slice(top, top + ROWS)
        changes = first[rows, :-1] != second[rows, 1:]
        costs = rng.random(changes.shape, np.float32)
        costs *= NOISE
        costs += changes
        yield from costs
