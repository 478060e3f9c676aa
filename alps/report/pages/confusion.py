"""The confusion of clusters and ground-truth classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from alps.evaluation.pseudo_labels import Evaluation
from alps.structures.records import Category

CLUSTERS = 60  # maximum number of rows of the heat map, the largest clusters first


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Scores of one class of the ground truth, in 0..1; NaN where a score is undefined."""

    category: Category
    fraction: float  # fraction of the pixels with a class
    recall: float
    iou: float
    random: float  # IoU of the random baseline
    oracle: float  # IoU of the oracle
    clusters: list[Category]  # clusters mapped to the class, the largest first
    confusion: tuple[str, float] | None  # most frequent wrong class, and its fraction of the pixels


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """The classes of the pixels of a cluster."""

    cluster: Category
    position: int  # index of the class that it is mapped to, in the order of the classes
    fraction: float  # fraction of the labelled pixels
    cells: list[float]  # fraction of its pixels in each class, in the order of the classes


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
    errors = np.zeros((len(pixels), len(pixels)), np.int64)  # predicted class × true class
    np.add.at(errors, evaluation.mapping, table.counts)
    np.fill_diagonal(errors, 0)
    rows = []
    for c in order[pixels[order] > 0]:
        mapped = np.flatnonzero((evaluation.mapping == c) & (size > 0))
        most = int(errors[:, c].argmax())
        confusion = (evaluation.categories[most].name, errors[most, c] / pixels[c])
        rows.append(
            ClassRow(
                category=evaluation.categories[c],
                fraction=pixels[c] / pixels.sum(),
                recall=labels.accuracy[c],
                iou=labels.iou[c],
                random=random.iou[c],
                oracle=oracle.iou[c],
                clusters=[clusters[k] for k in mapped[np.argsort(-size[mapped], kind="stable")]],
                confusion=confusion if errors[most, c] else None,
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
    position = np.argsort(order)[evaluation.mapping]
    size = counts.sum(axis=1)
    largest = np.argsort(-size, kind="stable")[:CLUSTERS]
    largest = largest[size[largest] > 0]
    return [
        ClusterRow(
            cluster=clusters[k],
            position=int(position[k]),
            fraction=size[k] / size.sum(),
            cells=(counts[k] / size[k]).tolist(),
        )
        for k in largest[np.argsort(position[largest], kind="stable")]
    ]


def unlabelled_cells(evaluation: Evaluation, order: Int64[np.ndarray, " G"]) -> list[float]:
    """Return the fractions of the classes among the unlabelled pixels; [] if there are none."""
    pixels = evaluation.clusters.unlabelled[order]
    return (pixels / pixels.sum()).tolist() if pixels.any() else []
