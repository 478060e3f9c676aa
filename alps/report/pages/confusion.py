"""The confusion between clusters and classes of the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from alps.evaluation.pseudo_labels import Evaluation
from alps.structures.records import Category

CLUSTERS = 60  # the most rows of the heat map, the largest clusters


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Scores of one class of the ground truth, in 0..1; NaN where a score is undefined."""

    category: Category
    share: float  # share of the pixels with a class
    recall: float
    iou: float
    random: float  # IoU of the random control
    oracle: float  # IoU of the oracle
    clusters: list[Category]  # clusters mapped to the class, the largest first
    mistaken: tuple[str, float] | None  # the class it is most often confused with, and the share


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """The classes of the pixels of a cluster."""

    cluster: Category
    stands_for: int  # position of its class in the order of the classes
    share: float  # share of the labelled pixels
    cells: list[float]  # share of its pixels per class, in the order of the classes


def truth_pixels(evaluation: Evaluation) -> Int64[np.ndarray, " G"]:
    """Return the number of scored pixels of each class."""
    table = evaluation.clusters
    pixels: np.ndarray = table.counts.sum(axis=0) + table.unlabelled
    return pixels


def class_rows(
    evaluation: Evaluation, clusters: Sequence[Category], order: Int64[np.ndarray, " G"]
) -> list[ClassRow]:
    """Return a row for each class that occurs.

    Args:
        evaluation: the evaluation of a store.
        clusters: the clusters of the store.
        order: the ids of all classes, in the order of the rows.
    """
    pixels, table = truth_pixels(evaluation), evaluation.clusters
    labels, random, oracle = (
        evaluation.ratings[name].everywhere for name in ("labels", "random", "oracle")
    )
    size = table.counts.sum(axis=1)
    taken = np.zeros((len(pixels), len(pixels)), np.int64)  # predicted class × true class
    np.add.at(taken, evaluation.mapping, table.counts)
    np.fill_diagonal(taken, 0)
    rows = []
    for c in order[pixels[order] > 0]:
        mapped = np.flatnonzero((evaluation.mapping == c) & (size > 0))
        most = int(taken[:, c].argmax())
        mistaken = (evaluation.categories[most].name, taken[most, c] / pixels[c])
        rows.append(
            ClassRow(
                category=evaluation.categories[c],
                share=pixels[c] / pixels.sum(),
                recall=labels.accuracy[c],
                iou=labels.iou[c],
                random=random.iou[c],
                oracle=oracle.iou[c],
                clusters=[clusters[k] for k in mapped[np.argsort(-size[mapped], kind="stable")]],
                mistaken=mistaken if taken[most, c] else None,
            )
        )
    return rows


def cluster_rows(
    evaluation: Evaluation, clusters: Sequence[Category], order: Int64[np.ndarray, " G"]
) -> list[ClusterRow]:
    """Return a row for each of the largest `CLUSTERS` clusters, grouped by class.

    Args:
        evaluation: the evaluation of a store.
        clusters: the clusters of the store.
        order: the ids of all classes, in the order of the cells.
    """
    counts = evaluation.clusters.counts[:, order]
    place = np.argsort(order)[evaluation.mapping]
    size = counts.sum(axis=1)
    largest = np.argsort(-size, kind="stable")[:CLUSTERS]
    largest = largest[size[largest] > 0]
    return [
        ClusterRow(
            cluster=clusters[k],
            stands_for=int(place[k]),
            share=size[k] / size.sum(),
            cells=(counts[k] / size[k]).tolist(),
        )
        for k in largest[np.argsort(place[largest], kind="stable")]
    ]


def unlabelled_cells(evaluation: Evaluation, order: Int64[np.ndarray, " G"]) -> list[float]:
    """Return the share of each class in the unlabelled pixels; [] if there are none."""
    pixels = evaluation.clusters.unlabelled[order]
    return (pixels / pixels.sum()).tolist() if pixels.any() else []
