"""Write the statistics of a store as tables (CSV) and charts (PNG)."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

import numpy as np

from alps.evaluation.objects import SIZES
from alps.report.charts.boxes import box_charts, object_rows
from alps.report.charts.distributions import distributions
from alps.report.charts.heat import HeatMap, heat_maps
from alps.report.counts.boxes import IOU_EDGES, SIZE_EDGES, BoxStatistics
from alps.report.counts.statistics import AREA_EDGES, COVERAGE_EDGES, GRID, StoreStatistics
from alps.report.counts.tracks import COV_EDGES
from alps.store.label_store import LabelStore
from alps.store.labelled import is_labelled
from alps.structures.records import Category

MEANS = ("mean_pixels", "mean_iou")  # mean pixels of a mask, and mean IoU of mask and prompt box

#: A table, as (column names, rows).
Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


def write_statistics(store: LabelStore, statistics: StoreStatistics) -> None:
    """Write ``statistics/<name>.csv`` and ``statistics/<name>.png`` into a finished store.

    The same store always gives the same bytes.

    Raises:
        StoreError: a file cannot be written.
    """
    from alps.report.charts.figures import draw_bars, draw_maps, to_png

    categories = store.categories() if is_labelled(store) else []
    charts = distributions(statistics, categories)
    if statistics.boxes:
        charts |= box_charts(statistics.boxes)
    figures = {name: draw_bars(group) for name, group in charts.items()}
    if maps := heat_maps(statistics, categories):
        figures["heat_map"] = draw_maps(maps)
    for name, figure in figures.items():
        with store.writing(f"statistics/{name}.png") as file:
            file.write(to_png(figure))
    for name, table in tables(statistics, categories).items():
        with store.writing(f"statistics/{name}.csv") as file:
            file.write(to_csv(table))


def tables(statistics: StoreStatistics, categories: Sequence[Category]) -> dict[str, Table]:
    """Return the tables by name; unlike the charts, the tables contain all classes."""
    content: dict[str, Table] = {
        "mask_sizes": (
            ("share_from", "share_to", "masks"),
            _histogram(AREA_EDGES, statistics.areas),
        ),
        "coverage": (
            ("share_from", "share_to", "images"),
            _histogram(COVERAGE_EDGES, statistics.coverages),
        ),
        "masks_per_image": (("masks", "images"), sorted(statistics.masks_per_image.items())),
    }
    if statistics.nodata:
        content["nodata"] = (
            ("share_from", "share_to", "images"),
            _histogram(COVERAGE_EDGES, statistics.nodata_fractions),
        )
    if maps := heat_maps(statistics, categories):
        content["heat_map"] = _heat(maps)
    if statistics.boxes:
        content |= box_tables(statistics.boxes, categories)
    if not categories:
        return content
    means = [float(d) if np.isfinite(d) else None for d in statistics.class_distance]
    classes = zip(categories, statistics.class_masks, statistics.class_pixels, means, strict=True)
    content["classes"] = (
        ("category_id", "name", "masks", "pixels", "mean_distance"),
        [(c.id, c.name, int(masks), int(pixels), d) for c, masks, pixels, d in classes],
    )
    content["classes_per_image"] = (
        ("classes", "images"),
        sorted(statistics.classes_per_image.items()),
    )
    return content


def box_tables(boxes: BoxStatistics, categories: Sequence[Category]) -> dict[str, Table]:
    """Return the tables of masks that were prompted with boxes, by name."""
    splits, tracks = boxes.splits, boxes.tracks
    content: dict[str, Table] = {
        "boxes": (
            ("split", "objects", *SIZES, "ignored", "empty_masks", "dropped"),
            [
                (split, int(o.sizes.sum()), *o.sizes.sum(0).tolist(), o.ignored, o.blank, o.dropped)
                for split, o in splits.items()
            ],
        ),
        "objects": (
            ("split", "category_id", "name", "objects", *SIZES, "pixels", *MEANS),
            [
                (
                    r.split,
                    r.category_id,
                    r.name,
                    r.objects,
                    *r.sizes,
                    r.pixels,
                    r.mean_pixels,
                    r.iou,
                )
                for r in object_rows(boxes, categories)
            ],
        ),
        "object_sizes": (
            ("pixels_from", "pixels_to", *splits),
            _histogram(SIZE_EDGES, *(objects.areas for objects in splits.values())),
        ),
        "box_iou": (
            ("iou_from", "iou_to", "prompt", "rotated_box"),
            _histogram(IOU_EDGES, boxes.prompt_iou, boxes.rotated_iou),
        ),
    }
    if boxes.most_dropped:
        content["dropped"] = (
            ("image_id", "dropped"),
            [(status.image_id, status.dropped) for status in boxes.most_dropped],
        )
    if tracks.tracks:
        # The runs with a coefficient above 1, and those without a coefficient.
        other_runs = [(1, None, tracks.above), (None, None, tracks.without)]
        table = [*_histogram(COV_EDGES, tracks.covs), *other_runs]
        content["track_cov"] = (("cov_from", "cov_to", "runs"), table)
    return content


def to_csv(table: Table) -> bytes:
    """Encode a table as CSV (RFC 4180) in UTF-8, with floats to six digits and None as empty."""
    header, rows = table
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows)
    return text.getvalue().encode()


def _histogram(edges: np.ndarray, *counts: np.ndarray) -> list[tuple[object, ...]]:
    """Return a row per bin: its bounds and its count in each of ``counts``."""
    columns = zip(*(column.tolist() for column in counts), strict=True)
    return [
        (*bounds, *row)
        for bounds, row in zip(itertools.pairwise(edges.tolist()), columns, strict=True)
    ]


def _heat(maps: Sequence[HeatMap]) -> Table:
    """Return a table with a row per cell and a column per map."""
    columns = [heat_map.cells.ravel().tolist() for heat_map in maps]
    rows = [
        (*place, *cells) for place, *cells in zip(np.ndindex(GRID, GRID), *columns, strict=True)
    ]
    return ("row", "column", *(heat_map.title for heat_map in maps)), rows
