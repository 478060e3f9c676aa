"""Bar charts of statistics: mask sizes, coverage, masks per image and class sizes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from alps.report.charts.chart import BarChart
from alps.report.charts.numbers import count, percent, round_step
from alps.report.counts.histogram import half_below
from alps.report.counts.statistics import AREA_EDGES, COVERAGE_EDGES, StoreStatistics
from alps.structures.records import Category

COUNT_BARS = 24  # maximum number of bars of masks per image
CLASS_BARS = 200  # maximum number of bars of class sizes
UNEVEN = 100  # ratio of class sizes above which the scale is logarithmic


def distributions(
    statistics: StoreStatistics, categories: Sequence[Category]
) -> dict[str, list[BarChart]]:
    """Return the bar charts by name; without ``categories``, there are no charts of classes."""
    charts = {
        "mask_sizes": [mask_sizes(statistics)],
        "coverage": [coverages(statistics)],
        "masks_per_image": [per_image(statistics.masks_per_image, "masks")],
    }
    if statistics.nodata:
        charts["nodata"] = [nodata_fractions(statistics)]
    if not categories:
        return charts
    return {
        "classes": class_sizes(statistics, categories),
        **charts,
        "classes_per_image": [per_image(statistics.classes_per_image, "classes")],
    }


def mask_sizes(statistics: StoreStatistics) -> BarChart:
    """Return a histogram of mask sizes as fractions of the image, on a log scale."""
    used = np.flatnonzero(statistics.areas)
    first, last = (used[0], used[-1]) if len(used) else (16, 27)
    start, stop = first // 4 * 4, last // 4 * 4 + 4  # whole decades: a tick at both ends
    edges = AREA_EDGES[start : stop + 1].tolist()
    return BarChart(
        counts=statistics.areas[start:stop],
        meanings=[f"masks of {percent(a)} to {percent(b)}" for a, b in itertools.pairwise(edges)],
        ticks=[(float(i), percent(edges[i])) for i in range(0, len(edges), 4)],
        title="Mask sizes",
        finding="Half of the masks cover less than "
        f"{percent(half_below(statistics.areas, AREA_EDGES))} of their image."
        if statistics.masks
        else "There are no masks.",
        x_label="mask area as a fraction of the image, log scale",
        y_label="masks",
    )


def per_image(counted: Counter[int], what: str) -> BarChart:
    """Return a histogram of the number of masks (or classes) per image, zero included."""
    most = max(counted, default=0)
    width = round_step((most + 1) / COUNT_BARS)
    counts = np.zeros(most // width + 1, np.int64)
    for n, images in counted.items():
        counts[n // width] += images
    ends = [f" to {count(n + width - 1)}" if width > 1 else "" for n in range(0, most + 1, width)]
    # The tick of a bar for a single number is centred on the bar.
    shift, stop = (0.5, most + 1) if width == 1 else (0.0, len(counts) * width + 1)
    return BarChart(
        counts=counts,
        meanings=[f"images with {count(i * width)}{end} {what}" for i, end in enumerate(ends)],
        ticks=[(n / width + shift, count(n)) for n in range(0, stop, round_step(stop / 6))],
        title=f"{what.capitalize()} per image",
        finding=f"The median image has {count(median(counted))}, the fullest {count(most)}.",
        x_label=f"{what} in the image",
        y_label="images",
    )


def class_sizes(statistics: StoreStatistics, categories: Sequence[Category]) -> list[BarChart]:
    """Return charts of masks per class and pixels per class, classes with most masks first.

    If the masks were prompted with boxes and the classes are very uneven, the scale is logarithmic.
    """
    order = np.lexsort((-statistics.class_pixels, -statistics.class_masks))
    order = order[(statistics.class_masks + statistics.class_pixels)[order] > 0]
    return [
        _class_sizes(
            sizes, unit, order, categories, log=_is_uneven(sizes) and bool(statistics.boxes)
        )
        for sizes, unit in ((statistics.class_masks, "masks"), (statistics.class_pixels, "pixels"))
    ]


def coverages(statistics: StoreStatistics) -> BarChart:
    """Return a histogram of the coverage: the fraction of the pixels with data inside a mask."""
    images = max(int(statistics.coverages.sum()), 1)
    half = len(statistics.coverages) // 2
    data = " with data" if statistics.nodata else ""
    return _fractions(
        statistics.coverages,
        title="Coverage",
        finding=f"At least half of the pixels{data} lie inside a mask in "
        f"{percent(statistics.coverages[half:].sum() / images)} of the images.",
        x_label=f"fraction of the image's pixels{data} inside a mask",
    )


def nodata_fractions(statistics: StoreStatistics) -> BarChart:
    """Return a histogram of the fraction of no-data pixels, of images with no-data pixels."""
    images = statistics.masks_per_image.total()
    return _fractions(
        statistics.nodata_fractions,
        title="No data",
        finding=f"{percent(statistics.nodata_images / images)} of the images have no-data pixels, "
        f"{percent(statistics.blank / images)} have nothing else.",
        x_label="fraction of no-data pixels in the image",
    )


def median(counts: Counter[int]) -> int:
    """Return the lower median of numbers with counts; 0 if there are none.

    >>> median(Counter({1: 2, 5: 2}))
    1
    """
    below = 0
    for value in sorted(counts):
        below += counts[value]
        if 2 * below >= counts.total():
            return value
    return 0


def _fractions(
    counts: Int64[np.ndarray, " B"], *, title: str, finding: str, x_label: str
) -> BarChart:
    """Return a histogram of images over `COVERAGE_EDGES`."""
    edges = COVERAGE_EDGES.tolist()
    return BarChart(
        counts=counts,
        meanings=[f"images of {percent(a)} to {percent(b)}" for a, b in itertools.pairwise(edges)],
        ticks=[(i * len(counts) / 5, percent(i / 5)) for i in range(6)],
        title=title,
        finding=finding,
        x_label=x_label,
        y_label="images",
    )


def _class_sizes(
    sizes: Int64[np.ndarray, " K"],
    unit: str,
    order: Int64[np.ndarray, " _"],
    categories: Sequence[Category],
    *,
    log: bool,
) -> BarChart:
    total = int(sizes.sum())
    half = int(np.searchsorted(np.cumsum(np.sort(sizes)[::-1]), total / 2)) + 1
    largest = order[:CLASS_BARS]
    few = "" if len(largest) == len(order) else f", {len(largest)} of {count(len(order))}"
    step = round_step(len(largest) / 6)
    return BarChart(
        counts=sizes[largest],
        meanings=[f"{unit} of {categories[c].name}" for c in largest],
        ticks=[(n - 0.5, count(n)) for n in range(step, len(largest) + 1, step)],
        title=f"Classes by {unit}",
        finding=f"The largest of {count(int(np.count_nonzero(sizes)))} classes has "
        f"{percent(sizes.max() / total)} of the labelled {unit}, the largest {half} have half of "
        "them."
        if total
        else f"No {unit} have a class.",
        x_label=f"classes, by decreasing number of masks{few}",
        y_label=f"{unit}, log scale" if log else unit,
        classes=[categories[c] for c in largest],
        log=log,
    )


def _is_uneven(sizes: Int64[np.ndarray, " K"]) -> bool:
    """Return whether the largest class is more than `UNEVEN` times the smallest."""
    nonzero = sizes[sizes > 0]
    return len(nonzero) > 0 and bool(nonzero.max() > UNEVEN * nonzero.min())
