"""The bar charts of the report as plain numbers; the page draws them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from alps.report.census import AREA_EDGES, COVERAGE_EDGES, Census
from alps.report.figures import count, percent, round_step, short

COUNT_BARS = 24  # at most, for masks per image
CLASS_BARS = 200  # at most, for class sizes


@dataclass(frozen=True, slots=True)
class Bar:
    """The ``place``-th bar; its height is a share of the plot's."""

    place: int
    height: float
    stands_for: str
    color: str | None = None  # None: the page's own


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of equal width side by side; ticks are (share of the plot's width or height, text)."""

    title: str
    finding: str
    bars: list[Bar]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_label: str
    y_label: str


def mask_sizes(census: Census) -> Chart:
    """Histogram of the share of its image that a mask covers, logarithmic."""
    used = np.flatnonzero(census.areas)
    first, last = (used[0], used[-1]) if len(used) else (16, 27)
    start, stop = first // 4 * 4, last // 4 * 4 + 4  # whole decades: a tick at both ends
    edges = AREA_EDGES[start : stop + 1].tolist()
    return _chart(
        census.areas[start:stop],
        [f"masks of {percent(a)} to {percent(b)}" for a, b in itertools.pairwise(edges)],
        ticks=[(float(i), percent(edges[i])) for i in range(0, len(edges), 4)],
        title="Mask sizes",
        finding=f"Half of the masks cover less than {percent(half_below(census))} of their image."
        if census.masks
        else "There are no masks.",
        x_label="share of its image that a mask covers, log scale",
        y_label="masks",
    )


def masks_per_image(census: Census) -> Chart:
    """Histogram of the number of masks in an image, images without any included."""
    most = max(census.masks_per_image, default=0)
    width = round_step((most + 1) / COUNT_BARS)
    counts = np.zeros(most // width + 1, np.int64)
    for n, images in census.masks_per_image.items():
        counts[n // width] += images
    ends = [f" to {count(n + width - 1)}" if width > 1 else "" for n in range(0, most + 1, width)]
    # A bar that stands for one number has its tick in the middle.
    shift, stop = (0.5, most + 1) if width == 1 else (0.0, len(counts) * width + 1)
    return _chart(
        counts,
        [f"images with {count(i * width)}{end} masks" for i, end in enumerate(ends)],
        ticks=[(n / width + shift, count(n)) for n in range(0, stop, round_step(stop / 6))],
        title="Masks per image",
        finding=f"The median image has {count(median(census.masks_per_image))}, the fullest "
        f"{count(most)}.",
        x_label="masks in the image",
        y_label="images",
    )


def class_sizes(census: Census, names: Sequence[str], colors: Sequence[str]) -> Chart:
    """Masks of each class, the largest first, in the colours of the classes."""
    order = census.by_size
    sizes = census.class_masks[order]
    total = int(sizes.sum())
    half = int(np.searchsorted(np.cumsum(sizes), total / 2)) + 1
    shown = order[:CLASS_BARS]
    few = "" if len(shown) == len(order) else f", the largest {len(shown)} of {count(len(order))}"
    return _chart(
        census.class_masks[shown],
        [f"masks of {names[c]}" for c in shown],
        ticks=[(n - 0.5, count(n)) for n in range(0, len(shown) + 1, round_step(len(shown) / 6))][
            1:
        ],
        title="Class sizes",
        finding=f"The largest of {count(len(order))} classes holds {percent(sizes[0] / total)} of "
        f"the masks, the largest {half} hold half of them."
        if total
        else "No mask has a class.",
        x_label=f"classes by rank{few}",
        y_label="masks",
        colors=[colors[c] for c in shown],
    )


def coverages(census: Census) -> Chart:
    """Histogram of the share of an image's pixels inside a mask."""
    images = max(int(census.coverages.sum()), 1)
    half = len(census.coverages) // 2
    edges = COVERAGE_EDGES.tolist()
    return _chart(
        census.coverages,
        [f"images of {percent(a)} to {percent(b)}" for a, b in itertools.pairwise(edges)],
        ticks=[(i * len(census.coverages) / 5, percent(i / 5)) for i in range(6)],
        title="Coverage",
        finding="At least half of the pixels lie inside a mask in "
        f"{percent(census.coverages[half:].sum() / images)} of the images.",
        x_label="share of the image's pixels inside a mask",
        y_label="images",
    )


def half_below(census: Census) -> float:
    """The first edge of the size histogram with at least half of the masks below it."""
    return float(AREA_EDGES[1:][np.searchsorted(np.cumsum(census.areas), census.masks / 2)])


def median(counts: Counter[int]) -> int:
    """The lower median of counted numbers; 0 where there are none.

    >>> median(Counter({1: 2, 5: 2}))
    1
    """
    below = 0
    for value in sorted(counts):
        below += counts[value]
        if 2 * below >= counts.total():
            return value
    return 0


def _chart(
    counts: Int[np.ndarray, " N"],
    stands_for: Sequence[str],
    *,
    ticks: Sequence[tuple[float, str]],
    colors: Sequence[str] | None = None,
    **texts: Any,
) -> Chart:
    """Scale ``counts``, and ``ticks`` given in bars from the left, to the plot."""
    most = int(counts.max(initial=0))
    step = round_step(most / 5)
    top = max(-(-most // step), 1) * step
    n = max(len(counts), 1)
    return Chart(
        bars=[
            Bar(i, int(c) / top, f"{count(int(c))} {text}", colors[i] if colors else None)
            for i, (c, text) in enumerate(zip(counts, stands_for, strict=True))
        ],
        x_ticks=[(place / n, text) for place, text in ticks],
        y_ticks=[(level / top, short(level)) for level in range(0, top + 1, step)],
        **texts,
    )
