"""The page about masks from boxes beside true masks: how many are good, which, and which not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from alps.evaluation.objects import LEVELS, SIZES, InstanceScores
from alps.protocols import InstanceSet
from alps.report.charts.chart import BarChart, overlaps
from alps.report.charts.words import count, percent, score, share
from alps.report.pages.rendering import render
from alps.report.pictures.objects import COLORS, show_objects
from alps.store.label_store import LabelStore
from alps.structures.records import Category

BINS = 20  # of the histogram
CLASSES = 200  # rows of the table, those with most objects


@dataclass(frozen=True, slots=True)
class Row:
    """Some of the objects; NaN where there are none."""

    name: str
    objects: int
    iou: float
    shares: list[float]  # that reach each of `LEVELS`
    category: Category | None = None
    ap: float = float("nan")
    ap50: float = float("nan")


def write_instances(store: LabelStore, image_set: InstanceSet, scores: InstanceScores) -> Path:
    """Write evaluation.json and, as a self-contained page, evaluation.html into a store.

    Like the report: no network, no script, and no time, host or absolute path. The page does not
    grow with the store.

    Args:
        store: what was scored.
        image_set: its images, for the pictures; one that is gone is not shown.
        scores: of `alps.evaluation.objects.score_instances`.

    Raises:
        StoreError: the files cannot be written.
    """
    classes = class_rows(scores)
    html = render(
        "instances.html.jinja",
        store=store.info,
        scores=scores,
        tiles=tiles(scores),
        chart=histogram(scores),
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
    """(label, figure, note): what a person asks first."""
    objects = len(scores.iou)
    left_out = [
        f"{count(n)} {what}"
        for n, what in ((scores.ignored, "ignored"), (scores.unknown, "without a true mask"))
        if n
    ]
    return [
        ("mean IoU", score(scores.mean), f"median {score(_median(scores.iou))}"),
        *(
            (
                f"IoU ≥ {level:g}",
                share(scores.share(level)),
                f"{count(int((scores.iou >= level).sum()))} objects",
            )
            for level in LEVELS
        ),
        ("AP", score(scores.ap), f"AP50 {score(scores.ap50)}, AP75 {score(scores.ap75)}"),
        (
            "objects compared",
            count(objects),
            f"in {count(scores.images)} images" + "".join(f"; {text}" for text in left_out),
        ),
        ("empty masks", count(scores.empty), "without a pixel; their IoU is 0"),
    ]


def histogram(scores: InstanceScores) -> BarChart:
    """How many objects have which IoU."""
    counts = np.histogram(scores.iou, BINS, (0, 1))[0]
    return overlaps(
        counts,
        title="IoU of mask and true mask",
        finding=f"Half of the masks reach {score(_median(scores.iou))} or more; "
        f"{percent(1 - scores.share(LEVELS[0]))} stay below {LEVELS[0]:g}."
        if len(scores.iou)
        else "There is no object.",
        x_label="IoU of the mask with the true one",
        y_label="objects",
    )


def size_rows(scores: InstanceScores) -> list[Row]:
    """By COCO's sizes, small ones first."""
    return [_row(size, scores.of_size(size)) for size in SIZES]


def class_rows(scores: InstanceScores) -> list[Row]:
    """The classes that have objects, those with most first."""
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
    nothing = float("nan")
    return Row(
        name,
        len(iou),
        float(iou.mean()) if len(iou) else nothing,
        [float((iou >= level).mean()) if len(iou) else nothing for level in LEVELS],
        *(category, ap, ap50),
    )


def _median(iou: Float[np.ndarray, " n"]) -> float:
    return float(np.median(iou)) if len(iou) else float("nan")
