"""Pictures of the best and the worst images of an evaluation, with labels and ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alps.errors import ImageError, LabelError
from alps.evaluation.pseudo_labels import Evaluation, ImageScore
from alps.images.stored import StoredLabels
from alps.protocols import LabelledSet
from alps.report.pictures.drawing import (
    data_uri,
    draw_classes,
    draw_errors,
    draw_nodata,
    picture_size,
    shrink,
    shrink_classes,
    shrink_valid,
)
from alps.store.label_store import LabelStore
from alps.structures.paint import ignore_nodata

PICTURE_BYTES = 60_000  # maximum per picture; at most 8 × 4 pictures take 2.6 MB in base64


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """Data URIs of an image, its ground truth, its labels as classes, and the wrong pixels."""

    score: ImageScore
    pictures: tuple[str, str, str, str]
    has_nodata: bool


def gallery(
    store: LabelStore, image_set: LabelledSet, evaluation: Evaluation
) -> list[tuple[str, list[ComparedImage]]]:
    """Return (title, images) of the best and of the worst images.

    A single image has the title "". Images that cannot be read are skipped.

    Args:
        store: the evaluated label store.
        image_set: the image set that the store was made from.
        evaluation: the evaluation of the store.
    """
    best = "Best" if evaluation.worst else ""
    return [
        (title, [row for score in part if (row := _draw(store, image_set, evaluation, score))])
        for title, part in ((best, evaluation.best), ("Worst", evaluation.worst))
    ]


def _draw(
    store: LabelStore, image_set: LabelledSet, evaluation: Evaluation, score: ImageScore
) -> ComparedImage | None:
    labels = StoredLabels(root=str(store.root))
    try:
        sample = image_set.read(score.record)
        target = image_set.read_target(score.record)
        clusters = labels.read_target(score.record)
    except (ImageError, LabelError):
        return None
    size = picture_size(sample.size)
    valid = shrink_valid(sample.valid, size)
    picture = shrink(sample.image, size)
    target = ignore_nodata(target, sample.valid, image_set.ignore_index)
    truth = shrink_classes(target, size)
    truth[truth == image_set.ignore_index] = -1
    predicted = shrink_classes(clusters, size)
    unlabelled = predicted == store.info.ignore_index
    predicted[~unlabelled] = evaluation.mapping[predicted[~unlabelled]]
    predicted[unlabelled] = -1
    classes = np.arange(len(evaluation.categories))
    colors: Sequence[tuple[int, int, int]] = [c.color for c in evaluation.categories]
    drawn = (
        (picture, False),
        (draw_classes(truth, classes, colors), True),
        (draw_classes(predicted, classes, colors), True),
        (draw_errors(picture, predicted, truth), False),
    )
    image, true, labelled, errors = (
        data_uri(draw_nodata(part, valid), PICTURE_BYTES, flat=flat) for part, flat in drawn
    )
    return ComparedImage(score, (image, true, labelled, errors), has_nodata=valid is not None)
