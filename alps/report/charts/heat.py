"""Heat maps of the positions of masks in their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from alps.report.charts.numbers import percent
from alps.report.counts.statistics import StoreStatistics
from alps.structures.records import Category

CLASSES = 6  # number of classes with a separate map, the largest first
COARSEST = 8  # minimum number of cells per side
RIM = 8  # the border region is 1 / RIM of the width and height at each side


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Number of masks per cell of a grid; images are stretched to the square of the grid.

    A mask is distributed evenly over its box and sums to 1. The first cell is at the upper left.
    """

    title: str
    cells: Float64[np.ndarray, "G G"]
    category: Category | None = None  # None: all masks

    @property
    def masks(self) -> int:
        """The number of masks."""
        return round(float(self.cells.sum()))


def heat_maps(statistics: StoreStatistics, categories: Sequence[Category]) -> list[HeatMap]:
    """Return a map of all masks and maps of the largest classes; [] if all masks are empty."""
    if not statistics.positions.any():
        return []
    return [
        HeatMap("all", statistics.positions.sum(axis=0)),
        *(
            HeatMap(categories[c].name, statistics.positions[c], categories[c])
            for c in statistics.by_size[:CLASSES]
            if statistics.positions[c].any()
        ),
    ]


def coarsen(cells: Float64[np.ndarray, "G G"]) -> Float64[np.ndarray, "g g"]:
    """Return cells merged 2 × 2 until they contain at least one mask on average, to reduce noise.

    >>> coarsen(np.full((32, 32), 0.3)).shape
    (16, 16)
    """
    while cells.mean() < 1 and len(cells) > COARSEST:
        half = len(cells) // 2
        cells = cells.reshape(half, 2, half, 2).sum(axis=(1, 3))
    return cells


def finding(statistics: StoreStatistics) -> str:
    """Return a sentence about the number of masks near the border of their image."""
    cells = statistics.positions.sum(axis=0)
    rim = len(cells) // RIM
    inner = cells[rim:-rim, rim:-rim]
    return (
        f"{percent(1 - inner.sum() / cells.sum())} of the masks are in the outer eighth at any "
        f"side, which is {percent(1 - inner.size / cells.size)} of an image."
    )
