"""Charts as plain numbers; the pages draw them as SVG and `png` draws them as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from alps.report.charts.words import count, css_color, round_step, short
from alps.structures.records import Category

BELOW_ONE = math.log10(2)  # decades below 1 on a logarithmic scale, so that 1 has a height


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Titles and axes of a plot; a tick is (share of the plot's width or height, text)."""

    title: str
    finding: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_label: str
    y_label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar at position ``place`` from the left; its height is a share of the plot's."""

    place: int
    height: float
    stands_for: str
    color: str | None = None  # None: the default of the page
    name: str = ""  # of the class, if it stands for one


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart(Chart):
    """A chart of adjacent bars of equal width."""

    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a line, in shares of the plot's width and height."""

    x: float
    y: float
    stands_for: str
    favoured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart(Chart):
    """A chart of one line."""

    points: list[Point]


def overlaps(
    counts: Int64[np.ndarray, " N"], *, title: str, finding: str, x_label: str, y_label: str
) -> BarChart:
    """Return a histogram of IoU.

    Args:
        counts: the counts of N bins of equal width from 0 to 1.
        title: the title of the chart.
        finding: a sentence on what the chart shows.
        x_label: the label of the x axis.
        y_label: what is counted, in the plural; also the label of the y axis.
    """
    n = len(counts)
    return bar_chart(
        counts,
        [f"{y_label} with an IoU of {i / n:g} to {(i + 1) / n:g}" for i in range(n)],
        ticks=[(i * n / 5, f"{i / 5:g}") for i in range(6)],
        title=title,
        finding=finding,
        x_label=x_label,
        y_label=y_label,
    )


def bar_chart(
    counts: Int[np.ndarray, " N"],
    stands_for: Sequence[str],
    *,
    ticks: Sequence[tuple[float, str]],
    classes: Sequence[Category] | None = None,
    log: bool = False,
    y_label: str,
    **texts: Any,
) -> BarChart:
    """Return a bar chart, with counts and ticks scaled to the plot.

    Args:
        counts: the count of each bar.
        stands_for: what each bar counts, in the plural.
        ticks: (position, text) of the ticks of the x axis, in bars from the left.
        classes: the class of each bar, which gives its colour and name; None if bars are not
            classes.
        log: use a logarithmic y axis.
        y_label: the label of the y axis.
        **texts: the other fields of `Chart`.
    """
    heights, y_ticks = _logarithmic(counts) if log else _even(counts)
    n = max(len(counts), 1)
    bars = [
        Bar(i, height, f"{count(int(c))} {text}")
        for i, (c, height, text) in enumerate(zip(counts, heights, stands_for, strict=True))
    ]
    if classes is not None:
        bars = [
            replace(bar, color=css_color(c.color), name=c.name)
            for bar, c in zip(bars, classes, strict=True)
        ]
    return BarChart(
        bars=bars,
        x_ticks=[(place / n, text) for place, text in ticks],
        y_ticks=y_ticks,
        y_label=f"{y_label}, log scale" if log else y_label,
        **texts,
    )


def _even(counts: Int[np.ndarray, " N"]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the heights of bars and the ticks of the y axis on a linear scale."""
    most = int(counts.max(initial=0))
    step = round_step(most / 5)
    top = max(-(-most // step), 1) * step
    ticks = [(level / top, short(level)) for level in range(0, top + 1, step)]
    return [int(c) / top for c in counts], ticks


def _logarithmic(counts: Int[np.ndarray, " N"]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return heights and ticks on a logarithmic scale, with 0 at the x axis and 1 above it."""
    decades = math.ceil(math.log10(max(int(counts.max(initial=0)), 10)))
    whole = decades + BELOW_ONE
    heights = [(math.log10(c) + BELOW_ONE) / whole if c else 0.0 for c in counts.tolist()]
    step = -(-decades // 5)
    levels = range(0, decades + 1, step)
    return heights, [(0.0, ""), *(((d + BELOW_ONE) / whole, short(10**d)) for d in levels)]
