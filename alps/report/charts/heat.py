"""Where in their images masks lie, as heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from alps.report.charts.words import percent
from alps.report.counts.census import Census
from alps.structures.records import Category

CLASSES = 6  # with a map of their own, the largest
COARSEST = 8  # cells per side
RIM = 8  # the rim is this part of the width and height at each side
SHADE = (20, 150, 136)  # seen on white and on black


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """Masks per cell, in parts; every image is stretched to a square, upper left first."""

    title: str
    cells: Float64[np.ndarray, "G G"]
    category: Category | None = None  # None: all masks

    @property
    def masks(self) -> int:
        """How many there are."""
        return round(float(self.cells.sum()))


def heat_maps(census: Census, categories: Sequence[Category]) -> list[HeatMap]:
    """A map of all masks and those of the largest classes; none of masks without a pixel."""
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
    """Join cells two by two until they hold a mask on average: fewer are noise.

    >>> coarsen(np.full((32, 32), 0.3)).shape
    (16, 16)
    """
    while cells.mean() < 1 and len(cells) > COARSEST:
        half = len(cells) // 2
        cells = cells.reshape(half, 2, half, 2).sum(axis=(1, 3))
    return cells


def finding(census: Census) -> str:
    """How much of the masks lies near the border of their image."""
    cells = census.places.sum(axis=0)
    rim = len(cells) // RIM
    inner = cells[rim:-rim, rim:-rim]
    return (
        f"{percent(1 - inner.sum() / cells.sum())} of the masks lie near a border: in the outer "
        f"eighth on any side, {percent(1 - inner.size / cells.size)} of an image."
    )


def shade(cells: Float64[np.ndarray, "G G"]) -> UInt8[np.ndarray, "G G 4"]:
    """RGBA, a pixel per cell: nothing where there are no masks, opaque where most are."""
    picture = np.empty((*cells.shape, 4), np.uint8)
    picture[..., :3] = SHADE
    picture[..., 3] = np.rint(255 * cells / cells.max())
    return picture
