"""The page that compares numbers of classes, K, on the same features."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from functools import partial

from tqdm import tqdm

from alps.assign.choose_k import (
    CLEAR_DEPTH,
    CLEAR_SILHOUETTE,
    SAMPLE,
    SEEDS,
    Choice,
    compare_k,
    favoured,
    with_classes,
)
from alps.assign.cluster import Cluster
from alps.report.charts.chart import LineChart, Point
from alps.report.pages.rendering import render
from alps.report.pages.statistics import to_csv
from alps.store.label_store import LabelStore

#: (title, axis label, explanation) by score.
SCORES = {
    "inertia": (
        "Inertia",
        "inertia",
        "Mean squared distance of a mask to the centroid of its class. It decreases with K; look "
        "for the elbow, after which it decreases slowly.",
    ),
    "silhouette": (
        "Silhouette",
        "silhouette",
        "How much closer a mask is to its class than to the nearest other class: 1 for well "
        "separated classes, 0 for a mask between two classes; larger is better.",
    ),
    "stability": (
        "Stability",
        "ARI",
        "Agreement of two runs with different seeds (adjusted Rand index): 1 for equal classes, 0 "
        "for chance; larger is better.",
    ),
}


def write_choose_k(store: LabelStore, cluster: Cluster, ks: Sequence[int]) -> list[Choice]:
    """Compare numbers of classes on a finished store, and write choose_k.html and its data.

    The labels of the store do not change.

    Args:
        store: a label store with features.
        cluster: the clustering; its settings other than K are used.
        ks: the numbers of classes to compare.

    Returns:
        The scores of each K, in ascending order.

    Raises:
        TooFewMasks: there are fewer masks than the largest K.
        StoreError: a part of the store cannot be read, or the page cannot be written.
    """
    from alps.report.charts.figures import draw_lines, to_png, to_svg

    shards = range(len(store.plan))
    # The largest K first, so that too few masks raise an error immediately.
    order = sorted(set(ks), reverse=True)
    blocks, areas = store.all_features(), [store.shard(i).areas() for i in shards]
    scored = compare_k(partial(with_classes, cluster), blocks, areas, ks=order, seeds=SEEDS)
    bar = tqdm(scored, total=len(order), desc="numbers of classes", unit="K")
    choices = sorted(bar, key=lambda choice: choice.k)
    charts, best = score_charts(choices), favoured(choices)
    figure = draw_lines(charts)
    html = render(
        "choose_k.html.jinja",
        store=store.info,
        choices=choices,
        charts=charts,
        svg=to_svg(figure),
        favoured=best,
        clear_depth=CLEAR_DEPTH,
        clear_silhouette=CLEAR_SILHOUETTE,
        used=cluster.num_classes,
        seeds=len(SEEDS),
        sample=min(sum(map(len, blocks)), SAMPLE),
    )
    header = tuple(field.name for field in fields(Choice))
    table = header, [astuple(choice) for choice in choices]
    for name, content in (
        ("statistics/choose_k.png", to_png(figure)),
        ("statistics/choose_k.csv", to_csv(table)),
        ("statistics/choose_k.json", to_json(best)),
        ("choose_k.html", html.encode()),
    ):
        with store.writing(name) as file:
            file.write(content)
    return choices


def to_json(best: Mapping[str, int | None]) -> bytes:
    """Encode the best K of each score (null if there is none), and the thresholds of an elbow."""
    content = {
        "elbow": best["inertia"],
        "silhouette": best["silhouette"],
        "stability": best["stability"],
        "clear_elbow": {"depth": CLEAR_DEPTH, "silhouette": CLEAR_SILHOUETTE},
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def score_charts(choices: Sequence[Choice]) -> list[LineChart]:
    """Return a line chart per score over K; scores that are not finite are skipped."""
    best = favoured(choices)
    return [
        LineChart(
            title=title,
            finding=finding,
            points=[
                Point(choice.k, value, choice.k == best[score])
                for choice in choices
                if not math.isnan(value := getattr(choice, score))
            ],
            ticks=[choice.k for choice in choices],
            x_label="classes, log scale",
            y_label=y_label,
        )
        for score, (title, y_label, finding) in SCORES.items()
    ]
