"""The page that compares masks from boxes with ground-truth masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from alps.evaluation.objects import LEVELS, SIZES, InstanceScores
from alps.protocols import InstanceSet
from alps.report.charts.chart import BarChart, overlaps
from alps.report.charts.numbers import count, percent, score, table_percent
from alps.report.pages.rendering import render
from alps.report.pictures.objects import COLORS, show_objects
from alps.store.label_store import LabelStore
from alps.structures.records import Category

BINS = 20  # number of bins of the histogram
CLASSES = 200  # maximum number of rows of the table, classes with most objects first


@dataclass(frozen=True, slots=True)
class Row:
    """Scores of a group of objects; NaN if it is empty."""

    name: str
    objects: int
    iou: float
    fractions: list[float]  # fraction of the objects with at least the IoU of each of `LEVELS`
    category: Category | None = None
    ap: float = float("nan")
    ap50: float = float("nan")


def write_instances(store: LabelStore, image_set: InstanceSet, scores: InstanceScores) -> Path:
    """Write evaluation.json and, as a self-contained page, evaluation.html into a store.

    The page needs no network and no script, and contains no time, host or absolute path. Its size
    does not grow with the store.

    Args:
        store: the scored label store.
        image_set: images for the pictures; images that cannot be read are not shown.
        scores: the result of `alps.evaluation.objects.score_instances`.

    Returns:
        The path of the page.

    Raises:
        StoreError: the files cannot be written.
    """
    from alps.report.charts.figures import plots

    classes = class_rows(scores)
    html = render(
        "instances.html.jinja",
        store=store.info,
        scores=scores,
        tiles=tiles(scores),
        plots=plots([[histogram(scores)]]),
        levels=LEVELS,
        sizes=[*size_rows(scores), _row("all", scores.iou)],
        classes=classes[:CLASSES],
        n_classes=len(classes),
        colors=COLORS,
        gallery=show_objects(store, image_set, scores),
    )
    store.write_text("evaluation.json", json.dumps(scores.to_json(), indent=1) + "\n")
    store.write_text("evaluation.html", html)
    return store.root / "evaluation.html"


def tiles(scores: InstanceScores) -> list[tuple[str, str, str]]:
    """Return (label, value, note) of the main scores."""
    objects = len(scores.iou)
    excluded = [
        f"{count(n)} {what}"
        for n, what in (
            (scores.ignored, "ignored"),
            (scores.unknown, "without a ground-truth mask"),
        )
        if n
    ]
    return [
        ("mean IoU", score(scores.mean), f"median {score(_median(scores.iou))}"),
        *(
            (
                f"IoU ≥ {level:g}",
                table_percent(scores.fraction_above(level)),
                f"{count(int((scores.iou >= level).sum()))} objects",
            )
            for level in LEVELS
        ),
        ("AP", score(scores.ap), f"AP50 {score(scores.ap50)}, AP75 {score(scores.ap75)}"),
        (
            "objects compared",
            count(objects),
            f"in {count(scores.images)} images" + "".join(f"; {text}" for text in excluded),
        ),
        ("empty masks", count(scores.empty), "their IoU is 0"),
    ]


def histogram(scores: InstanceScores) -> BarChart:
    """Return a histogram of the IoU of the objects."""
    counts = np.histogram(scores.iou, BINS, (0, 1))[0]
    return overlaps(
        counts,
        title="IoU of mask and ground-truth mask",
        finding=f"Half of the masks have an IoU of {score(_median(scores.iou))} or more; "
        f"{percent(1 - scores.fraction_above(LEVELS[0]))} are below {LEVELS[0]:g}."
        if len(scores.iou)
        else "There are no objects.",
        x_label="IoU of mask and ground-truth mask",
        y_label="objects",
    )


def size_rows(scores: InstanceScores) -> list[Row]:
    """Return a row for each of COCO's sizes, small objects first."""
    return [_row(size, scores.of_size(size)) for size in SIZES]


def class_rows(scores: InstanceScores) -> list[Row]:
    """Return a row for each class with objects, by decreasing number of objects."""
    rows = [
        _row(
            category.name,
            scores.of_category(category.id),
            category,
            float(scores.precision[category.id].mean()),
            float(scores.precision[category.id, 0]),
        )
        for category in scores.categories
    ]
    return sorted((row for row in rows if row.objects), key=lambda row: -row.objects)


def _row(
    name: str,
    iou: Float[np.ndarray, " n"],
    category: Category | None = None,
    ap: float = float("nan"),
    ap50: float = float("nan"),
) -> Row:
    undefined = float("nan")
    return Row(
        name,
        len(iou),
        float(iou.mean()) if len(iou) else undefined,
        [float((iou >= level).mean()) if len(iou) else undefined for level in LEVELS],
        *(category, ap, ap50),
    )


def _median(iou: Float[np.ndarray, " n"]) -> float:
    return float(np.median(iou)) if len(iou) else float("nan")
