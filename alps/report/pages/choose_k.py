"""The page on the number of classes: a comparison of several K on the same features."""

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
from alps.report.charts.words import count, decimal
from alps.report.pages.rendering import render
from alps.report.pages.statistics import to_csv
from alps.store.label_store import LabelStore

#: Score → (title, label of its axis, how to read it).
FIGURES = {
    "inertia": (
        "Inertia",
        "inertia",
        "Mean squared distance of a mask to the centre of its class. It falls with every class; "
        "look for the elbow, after which more classes bring little.",
    ),
    "silhouette": (
        "Silhouette",
        "silhouette",
        "How much nearer a mask is to its own class than to the next one. 1 is far apart, 0 is "
        "on the border; larger is better.",
    ),
    "stability": (
        "Stability",
        "ARI",
        "How far two runs with other seeds agree (adjusted Rand index). 1 is always, 0 is by "
        "chance; larger is better.",
    ),
}


def write_choose_k(store: LabelStore, cluster: Cluster, ks: Sequence[int]) -> list[Choice]:
    """Compare numbers of classes on a finished store, and write choose_k.html and its data.

    The labels of the store do not change.

    Args:
        store: a label store with features.
        cluster: the settings of the clustering, of which only K is varied.
        ks: the numbers of classes to compare.

    Returns:
        The scores of each K, in ascending order.

    Raises:
        TooFewMasks: there are fewer masks than the largest K.
        StoreError: a part of the store cannot be read, or the page cannot be written.
    """
    from alps.report.charts import png as plots

    shards = range(len(store.plan))
    # The largest K first, so that too few masks raise an error at once.
    order = sorted(set(ks), reverse=True)
    blocks, areas = store.all_features(), [store.shard(i).areas() for i in shards]
    found = compare_k(partial(with_classes, cluster), blocks, areas, ks=order, seeds=SEEDS)
    bar = tqdm(found, total=len(order), desc="numbers of classes", unit="K")
    choices = sorted(bar, key=lambda choice: choice.k)
    charts, best = draw(choices), favoured(choices)
    html = render(
        "choose_k.html.jinja",
        store=store.info,
        choices=choices,
        charts=charts,
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
        ("statistics/choose_k.png", plots.draw_lines(charts)),
        ("statistics/choose_k.csv", to_csv(table)),
        ("statistics/choose_k.json", to_json(best)),
        ("choose_k.html", html.encode()),
    ):
        with store.writing(name) as file:
            file.write(content)
    return choices


def to_json(best: Mapping[str, int | None]) -> bytes:
    """Encode the K that each score favours (or null) and the thresholds of a clear elbow."""
    content = {
        "elbow": best["inertia"],
        "silhouette": best["silhouette"],
        "stability": best["stability"],
        "clear_elbow": {"depth": CLEAR_DEPTH, "silhouette": CLEAR_SILHOUETTE},
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def draw(choices: Sequence[Choice]) -> list[LineChart]:
    """Return a line chart per score over K, on a log scale."""
    best = favoured(choices)
    return [_line(choices, figure, best[figure]) for figure in FIGURES]


def _line(choices: Sequence[Choice], figure: str, best: int | None) -> LineChart:
    title, y_label, finding = FIGURES[figure]
    known = {c.k: getattr(c, figure) for c in choices if not math.isnan(getattr(c, figure))}
    levels = _levels([0.0, *known.values()])
    low, height = levels[0], levels[-1] - levels[0]
    first, last = math.log(choices[0].k), math.log(choices[-1].k)
    x = {c.k: (math.log(c.k) - first) / ((last - first) or 1) for c in choices}
    return LineChart(
        title=title,
        finding=finding,
        points=[
            Point(x[k], (value - low) / height, f"{count(k)} classes: {decimal(value)}", k == best)
            for k, value in known.items()
        ],
        x_ticks=[(place, count(k)) for k, place in x.items()],
        y_ticks=[((level - low) / height, f"{level:g}") for level in levels],
        x_label="classes, log scale",
        y_label=y_label,
    )


def _levels(values: Sequence[float]) -> list[float]:
    """Return evenly spaced round numbers that span the values, in about four steps.

    >>> _levels([0.0, 0.07, 0.13])
    [0.0, 0.05, 0.1, 0.15]
    """
    low, high = min(values), max(values)
    quarter = (high - low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(quarter))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= quarter)
    first, last = math.floor(low / step), max(math.ceil(high / step), 1)
    return [round(i * step, 12) for i in range(first, last + 1)]
