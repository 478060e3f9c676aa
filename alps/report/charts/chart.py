"""Charts as plain numbers; `page` draws them as SVG and `plots` as PNG."""

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
    """What stands around a plot; ticks are (share of the plot's width or height, text)."""

    title: str
    finding: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_label: str
    y_label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """The ``place``-th bar; its height is a share of the plot's."""

    place: int
    height: float
    stands_for: str
    color: str | None = None  # None: the page's own
    name: str = ""  # of the class


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart(Chart):
    """Bars of equal width side by side."""

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
    """One line."""

    points: list[Point]


def overlaps(
    counts: Int64[np.ndarray, " N"], *, title: str, finding: str, x_label: str, y_label: str
) -> BarChart:
    """Histogram of IoU, ``counts`` at even steps from 0 to 1."""
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
    """Scale ``counts``, and ``ticks`` given in bars from the left, to the plot."""
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
    """Heights of bars, and ticks beside them."""
    most = int(counts.max(initial=0))
    step = round_step(most / 5)
    top = max(-(-most // step), 1) * step
    ticks = [(level / top, short(level)) for level in range(0, top + 1, step)]
    return [int(c) / top for c in counts], ticks


def _logarithmic(counts: Int[np.ndarray, " N"]) -> tuple[list[float], list[tuple[float, str]]]:
    """The same; the axis stands for nothing, and 1 is a little above it."""
    decades = math.ceil(math.log10(max(int(counts.max(initial=0)), 10)))
    whole = decades + BELOW_ONE
    heights = [(math.log10(c) + BELOW_ONE) / whole if c else 0.0 for c in counts.tolist()]
    step = -(-decades // 5)
    levels = range(0, decades + 1, step)
    return heights, [(0.0, ""), *(((d + BELOW_ONE) / whole, short(10**d)) for d in levels)]
