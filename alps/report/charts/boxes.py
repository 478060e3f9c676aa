"""Charts and tables of masks that were prompted with boxes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from alps.evaluation.objects import SIZES
from alps.report.charts.chart import BarChart, fifths, overlaps
from alps.report.charts.numbers import count, percent, short
from alps.report.counts.boxes import IOU_EDGES, SIZE_EDGES, BoxStatistics, Objects
from alps.report.counts.histogram import half_above
from alps.report.counts.tracks import COV_EDGES, TrackStatistics
from alps.structures.records import Category

SPLITS = 6  # maximum number of splits with a chart
ROWS = 40  # maximum number of classes per split on the page, the largest first


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """The objects of a class in a split."""

    split: str
    category: Category | None  # None: objects without a class
    objects: int
    sizes: tuple[int, ...]  # number of objects of each size in `SIZES`
    pixels: int  # sum of the mask areas
    iou: float  # mean IoU of mask and prompt box

    @property
    def category_id(self) -> int | None:
        """The pixel value of the class; None without a class."""
        return self.category.id if self.category else None

    @property
    def name(self) -> str | None:
        """The name of the class; None without a class."""
        return self.category.name if self.category else None

    @property
    def mean_pixels(self) -> float:
        """The mean number of pixels of a mask."""
        return self.pixels / self.objects


def box_charts(boxes: BoxStatistics) -> dict[str, list[BarChart]]:
    """Return the bar charts by name."""
    charts = {
        "object_sizes": object_sizes(boxes),
        "box_iou": [box_iou(boxes.prompt_iou, "its prompt box")],
    }
    if boxes.rotated_iou.any():
        charts["box_iou"].append(box_iou(boxes.rotated_iou, "its rotated box as annotated"))
    if boxes.tracks.tracks:
        charts["track_cov"] = [track_cov(boxes.tracks)]
    return charts


def box_section(boxes: BoxStatistics, categories: Sequence[Category]) -> dict[str, Any]:
    """Return the values of the section on boxes, for the template of the page."""
    rows = list(object_rows(boxes, categories))
    split = [
        {
            "name": name,
            "statistics": objects,
            "objects": int(objects.sizes.sum()),
            "sizes": objects.sizes.sum(axis=0).tolist(),
            "rows": [row for row in rows if row.split == name],
        }
        for name, objects in boxes.splits.items()
    ]
    return {
        "statistics": boxes,
        "splits": split,
        "sizes": [(name, *bounds) for name, bounds in SIZES.items()],
        "most_rows": ROWS,
    }


def object_sizes(boxes: BoxStatistics) -> list[BarChart]:
    """Return a histogram of mask sizes in pixels per split, all with the same x axis."""
    splits = list(boxes.splits.items())[:SPLITS]
    used = np.flatnonzero(sum(objects.areas for _, objects in splits))
    first, last = (used[0], used[-1]) if len(used) else (0, 15)
    start, stop = int(first) // 4 * 4, int(last) // 4 * 4 + 4  # whole decades
    edges = SIZE_EDGES[start : stop + 1].tolist()
    return [
        BarChart(
            counts=objects.areas[start:stop],
            meanings=[
                f"masks of {count(a)} to {count(b)} px"
                for a, b in itertools.pairwise(map(round, edges))
            ],
            ticks=[(float(i), short(round(edges[i]))) for i in range(0, len(edges), 4)],
            title="Mask sizes in pixels" + (f", {split}" if len(splits) > 1 else ""),
            finding=_sizes_finding(objects),
            x_label="pixels of a mask, log scale",
            y_label="masks",
        )
        for split, objects in splits
    ]


def box_iou(counts: Int64[np.ndarray, " B"], box: str) -> BarChart:
    """Return a histogram of the IoU of masks and boxes; ``box`` names the kind of box."""
    return overlaps(
        counts,
        title=f"Mask and {box}",
        finding=f"Half of {count(int(counts.sum()))} masks have an IoU above "
        f"{half_above(counts, IOU_EDGES):.2g}."
        if counts.any()
        else "There are no masks.",
        x_label="IoU of a mask and its box",
        y_label="masks",
    )


def track_cov(tracks: TrackStatistics) -> BarChart:
    """Return a histogram of the coefficient of variation of mask sizes along a track."""
    edges, runs = COV_EDGES.tolist(), int(tracks.covs.sum())
    half = half_above(tracks.covs, COV_EDGES) if runs else 0.0
    return BarChart(
        counts=tracks.covs,
        meanings=[f"runs of {a:.2f} to {b:.2f}" for a, b in itertools.pairwise(edges)],
        ticks=fifths(len(edges) - 1),
        title="Mask size along a track",
        finding=f"Half of {count(runs)} runs of consecutive frames vary by more than {half:.2g}. "
        f"Not shown: {count(tracks.above)} runs above 1, {count(tracks.without)} runs of a single "
        "mask or of empty masks.",
        x_label="standard deviation / mean of the mask pixels along a track",
        y_label="runs",
    )


def object_rows(boxes: BoxStatistics, categories: Sequence[Category]) -> Iterator[ObjectRow]:
    """Yield the classes that have objects, by split and decreasing number of objects."""
    for split, counts in boxes.splits.items():
        objects = counts.by_class
        for c in np.argsort(-objects, kind="stable")[: np.count_nonzero(objects)]:
            yield ObjectRow(
                split=split,
                category=categories[c] if c < len(categories) else None,
                objects=int(objects[c]),
                sizes=tuple(counts.sizes[c].tolist()),
                pixels=int(counts.pixels[c]),
                iou=float(counts.iou[c] / objects[c]),
            )


def _sizes_finding(objects: Objects) -> str:
    total = max(int(objects.sizes.sum()), 1)
    parts = zip(SIZES, (objects.sizes.sum(axis=0) / total).tolist(), strict=True)
    return ", ".join(f"{percent(part)} {size}" for size, part in parts) + ", as COCO calls them."
