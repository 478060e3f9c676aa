"""The statistics of a store as files: tables (CSV) and pictures of them (PNG)."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

import numpy as np

from alps.report.census import AREA_EDGES, COVERAGE_EDGES, GRID, Census, is_labelled
from alps.report.charts import distributions
from alps.report.heat import HeatMap, heat_maps
from alps.store import LabelStore
from alps.types import Category

#: Names of the columns, and the rows below them.
Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


def write_statistics(store: LabelStore, census: Census) -> None:
    """Write ``statistics/<name>.csv`` and ``statistics/<name>.png`` into a finished store.

    The same store gives the same bytes.

    Raises:
        StoreError: a file cannot be written.
    """
    from alps.report import plots  # matplotlib takes a second

    categories = store.categories() if is_labelled(store) else []
    pictures = {
        name: plots.draw_bars(charts) for name, charts in distributions(census, categories).items()
    }
    if maps := heat_maps(census, categories):
        pictures["heat_map"] = plots.draw_maps(maps)
    for name, picture in pictures.items():
        with store.writing(f"statistics/{name}.png") as file:
            file.write(picture)
    for name, table in tables(census, categories).items():
        with store.writing(f"statistics/{name}.csv") as file:
            file.write(to_csv(table))


def tables(census: Census, categories: Sequence[Category]) -> dict[str, Table]:
    """All that is drawn, and what the drawings leave out: the smallest classes."""
    found: dict[str, Table] = {
        "mask_sizes": (
            ("share_from", "share_to", "masks"),
            _histogram(AREA_EDGES, census.areas),
        ),
        "coverage": (
            ("share_from", "share_to", "images"),
            _histogram(COVERAGE_EDGES, census.coverages),
        ),
        "masks_per_image": (("masks", "images"), sorted(census.masks_per_image.items())),
    }
    if maps := heat_maps(census, categories):
        found["heat_map"] = _heat(maps)
    if not categories:
        return found
    far = [float(d) if np.isfinite(d) else None for d in census.class_distance]
    classes = zip(categories, census.class_masks, census.class_pixels, far, strict=True)
    found["classes"] = (
        ("category_id", "name", "masks", "pixels", "mean_distance"),
        [(c.id, c.name, int(masks), int(pixels), d) for c, masks, pixels, d in classes],
    )
    found["classes_per_image"] = (
        ("classes", "images"),
        sorted(census.classes_per_image.items()),
    )
    return found


def to_csv(table: Table) -> bytes:
    """RFC 4180 in UTF-8; floats to six digits, None as nothing."""
    header, rows = table
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in row] for row in rows)
    return text.getvalue().encode()


def _histogram(edges: np.ndarray, counts: np.ndarray) -> list[tuple[object, ...]]:
    bounds = itertools.pairwise(edges.tolist())
    return [(a, b, n) for (a, b), n in zip(bounds, counts.tolist(), strict=True)]


def _heat(maps: Sequence[HeatMap]) -> Table:
    """A row per cell, a column per map."""
    columns = [heat_map.cells.ravel().tolist() for heat_map in maps]
    rows = [
        (*place, *cells) for place, *cells in zip(np.ndindex(GRID, GRID), *columns, strict=True)
    ]
    return ("row", "column", *(heat_map.title for heat_map in maps)), rows
