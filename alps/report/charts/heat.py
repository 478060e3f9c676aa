"""Heat maps of the positions of masks in their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from alps.report.charts.numbers import percent
from alps.report.counts.census import Census
from alps.structures.records import Category

CLASSES = 6  # the largest classes have a map of their own
COARSEST = 8  # cells per side
RIM = 8  # the rim is 1 / RIM of the width and height at each side


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Masks per cell of a grid over all images, each stretched to a square.

    A mask counts 1 in sum, spread evenly over its box. The first cell is the upper left one.
    """

    title: str
    cells: Float64[np.ndarray, "G G"]
    category: Category | None = None  # None: all masks

    @property
    def masks(self) -> int:
        """The number of masks."""
        return round(float(self.cells.sum()))


def heat_maps(census: Census, categories: Sequence[Category]) -> list[HeatMap]:
    """Return a map of all masks, then of the largest classes; none if all masks are empty."""
    if not census.places.any():
        return []
    return [
        HeatMap("all", census.places.sum(axis=0)),
        *(
            HeatMap(categories[c].name, census.places[c], categories[c])
            for c in census.by_size[:CLASSES]
            if census.places[c].any()
        ),
    ]


def coarsen(cells: Float64[np.ndarray, "G G"]) -> Float64[np.ndarray, "g g"]:
    """Merge cells two by two until they hold one mask on average, as fewer are noise.

    >>> coarsen(np.full((32, 32), 0.3)).shape
    (16, 16)
    """
    while cells.mean() < 1 and len(cells) > COARSEST:
        half = len(cells) // 2
        cells = cells.reshape(half, 2, half, 2).sum(axis=(1, 3))
    return cells


def finding(census: Census) -> str:
    """Return a sentence on how many masks lie near the border of their image."""
    cells = census.places.sum(axis=0)
    rim = len(cells) // RIM
    inner = cells[rim:-rim, rim:-rim]
    return (
        f"{percent(1 - inner.sum() / cells.sum())} of the masks lie near a border: in the outer "
        f"eighth on any side, {percent(1 - inner.size / cells.size)} of an image."
    )
