"""Charts as numbers and texts; `figures` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64

from alps.structures.records import Category


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The texts of a chart."""

    title: str
    finding: str  # what the chart shows, in a sentence
    x_label: str
    y_label: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BarChart(Chart):
    """A chart of adjacent bars of equal width, one per count."""

    counts: Int[np.ndarray, " N"]
    meanings: Sequence[str]  # what each bar counts, in the plural
    ticks: Sequence[tuple[float, str]]  # (position, text) on the x axis; a bar has the width 1
    classes: Sequence[Category] = ()  # class of each bar, for its colour and name
    log: bool = False  # whether the y axis is logarithmic


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a line."""

    x: int
    y: float
    favoured: bool  # whether the score is best at this point


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart(Chart):
    """A chart of one line over a logarithmic x axis."""

    points: list[Point]
    ticks: list[int]  # of the x axis


def overlaps(
    counts: Int64[np.ndarray, " N"], *, title: str, finding: str, x_label: str, y_label: str
) -> BarChart:
    """Return a histogram of IoU.

    Args:
        counts: the counts of N bins of equal width from 0 to 1.
        title: the title of the chart.
        finding: what the chart shows, in a sentence.
        x_label: the label of the x axis.
        y_label: what is counted, in the plural; also the label of the y axis.
    """
    n = len(counts)
    return BarChart(
        counts=counts,
        meanings=[f"{y_label} with an IoU of {i / n:g} to {(i + 1) / n:g}" for i in range(n)],
        ticks=fifths(n),
        title=title,
        finding=finding,
        x_label=x_label,
        y_label=y_label,
    )


def fifths(n_bars: int) -> list[tuple[float, str]]:
    """Return the ticks 0, 0.2, … 1 of bars that span the interval from 0 to 1."""
    return [(i * n_bars / 5, f"{i / 5:g}") for i in range(6)]
