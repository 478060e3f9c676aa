"""Evaluate the labels of a store: compare its index maps and masks with the ground truth."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from alps.evaluation.comparison import Comparison
from alps.metrics.clustering import (
    Agreement,
    Contingency,
    agreement,
    hungarian,
    majority,
    scores,
)
from alps.metrics.masks import Tally
from alps.metrics.segmentation import Scores
from alps.protocols import LabelledSet
from alps.store.label_store import LabelStore
from alps.structures.records import Category, ImageRecord

#: Split on which clusters are mapped to classes; the scores are computed on the other splits.
LEARN_SPLIT = "train"
MAX_RANKED = 4  # number of best and of worst images to keep
FEW_IMAGES = 10  # with fewer images, the scores say little about other images
DIGITS = 6  # decimals of the numbers in evaluation.json
#: The scores of a `Tally` that are written.
MASK_SCORES = (
    *("masks_per_image", "coverage", "ar_100", "ar_1000"),
    *("achievable_accuracy", "undersegmentation_error", "boundary_iou", "boundary_f1"),
)

Tables = dict[str, Contingency]


@dataclass(frozen=True, slots=True)
class Rating:
    """Scores of labels whose clusters are mapped to classes; NaN where a score is undefined."""

    everywhere: Scores  # unlabelled pixels count as wrong
    covered: Scores  # over the labelled pixels only
    one_to_one: float  # accuracy over all pixels with at most one cluster per class
    coverage: float  # fraction of labelled pixels, among the pixels with a ground-truth class
    agreement: Agreement  # independent of the mapping to classes


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The accuracy of the labels of one image."""

    record: ImageRecord
    accuracy: float  # unlabelled pixels count as wrong


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Evaluation:
    """The comparison of a store's labels (K clusters) with ground truth (G classes)."""

    protocol: str
    truth: str  # digest of the ground truth; compare scores only if it is equal
    categories: Sequence[Category]  # classes of the ground truth
    learnt_on: Sequence[str]  # splits that determine ``mapping``
    scored_on: Sequence[str]  # splits that are scored; equal to learnt_on if there are no others
    images: Mapping[str, int]  # number of compared images by split
    skipped: Mapping[str, str]  # reasons why images could not be compared, by image id
    mapping: Int64[np.ndarray, " K"]  # class of each cluster
    clusters: Contingency  # number of pixels by cluster and class
    mask_clusters: Contingency  # number of masks by cluster and most frequent class
    masks: Tally
    ratings: Mapping[str, Rating]  # keys: labels, random, binary, oracle
    best: Sequence[ImageScore]
    worst: Sequence[ImageScore]

    def __repr__(self) -> str:
        """Return the main scores and those of the baselines, without the arrays."""
        accuracy = {name: round(r.everywhere.OA, 4) for name, r in self.ratings.items()}
        labels = self.ratings["labels"]
        return (
            f"Evaluation({self.protocol!r}, images={sum(self.images.values())}, "
            f"accuracy={accuracy}, mIoU={labels.everywhere.mIoU:.4f}, "
            f"coverage={labels.coverage:.4f})"
        )

    @property
    def held_out(self) -> bool:
        """Whether the images that determine the mapping to classes are not scored."""
        return self.learnt_on != self.scored_on

    @property
    def mask_accuracy(self) -> float:
        """Fraction of masks whose cluster is mapped to the mask's most frequent class."""
        return scores(self.mask_clusters, self.mapping).OA

    @property
    def mask_purity(self) -> float:
        """Fraction of labelled masks that have the most frequent class of their cluster."""
        return agreement(self.mask_clusters).purity


def evaluate(store: LabelStore, image_set: LabelledSet) -> Evaluation:
    """Compare a finished store with the ground truth of its images, shard by shard.

    Each cluster is mapped to its most frequent class in the split `LEARN_SPLIT`, and the result is
    scored on the other splits. If there is no such split, or no other split, mapping and scores use
    all images.

    Three baselines are painted from the same masks: "random" has random clusters, as many as the
    labels; "binary" has two clusters, inside a mask and outside; "oracle" gives each mask its most
    frequent class. Masks without a label in the store have none in "random".

    An image whose ground truth is invalid is logged, counted and skipped.

    Args:
        store: a label store in which all stages have run.
        image_set: the image set that the store was made from.

    Returns:
        The scores of the labels and of the baselines.

    Raises:
        LabelError: no image can be compared.
        StoreError: a part of the store cannot be read.
    """
    splits = sorted({record.split for shard in store.plan for record in shard})
    others = [split for split in splits if split != LEARN_SPLIT]
    learnt_on, scored_on = (
        ([LEARN_SPLIT], others) if LEARN_SPLIT in splits and others else (splits, splits)
    )
    comparison = Comparison(store, image_set)

    learnt = comparison.zeros()
    for pair in comparison.pairs(learnt_on, "mapping clusters to classes"):
        learnt = _add(learnt, comparison.count(pair))
    mapping = majority(learnt["labels"])

    scored = comparison.zeros()
    mask_clusters = scored["labels"]
    masks: Tally | None = None
    n = 0
    best: list[ImageScore] = []
    worst: list[ImageScore] = []
    for pair in comparison.pairs(scored_on, "scores"):
        pixel_counts = comparison.count(pair)
        scored = _add(scored, pixel_counts)
        mask_scores, mask_counts = comparison.count_masks(pair)
        masks = mask_scores if masks is None else masks + mask_scores
        mask_clusters = mask_clusters + mask_counts
        score = ImageScore(pair.record, scores(pixel_counts["labels"], mapping).OA)
        if not math.isnan(score.accuracy):
            best = heapq.nlargest(MAX_RANKED, [*best, score], key=_accuracy)
            # Among equal scores, the last images are kept (in `best`, the first images).
            worst = heapq.nsmallest(MAX_RANKED, [score, *worst], key=_accuracy)
            n += 1
    assert masks is not None, "pairs() yields at least one image or raises"

    ratings = {
        name: _rate(table, majority(learnt[name]), hungarian(learnt[name]))
        for name, table in scored.items()
    }
    identity = np.arange(len(comparison.categories))
    return Evaluation(
        protocol=image_set.protocol,
        truth=comparison.truth,
        categories=comparison.categories,
        learnt_on=learnt_on,
        scored_on=scored_on,
        images=comparison.images,
        skipped=comparison.skipped,
        mapping=mapping,
        clusters=scored["labels"],
        mask_clusters=mask_clusters,
        masks=masks,
        ratings={**ratings, "oracle": _rate(masks.oracle, identity, identity)},
        best=best[: (n + 1) // 2],  # no image is in both lists
        worst=worst[: n // 2],
    )


def caveats(evaluation: Evaluation) -> list[str]:
    """Return a sentence for each reason not to rely on the scores."""
    labels, random = evaluation.ratings["labels"], evaluation.ratings["random"]
    figures = (
        ("accuracy", labels.everywhere.OA, random.everywhere.OA),
        ("mIoU", labels.everywhere.mIoU, random.everywhere.mIoU),
    )
    worse = [
        f"{name} {score:.1%} against {baseline:.1%}"
        for name, score, baseline in figures
        if score <= baseline
    ]
    sentences = []
    if worse:
        sentences.append(
            "These labels are no better than random clusters of the same masks "
            f"({', '.join(worse)}): do not use them for these classes."
        )
    n = sum(evaluation.images[split] for split in evaluation.scored_on)
    if n < FEW_IMAGES:
        images = "1 image was" if n == 1 else f"{n} images were"
        sentences.append(f"Only {images} compared: the scores say little about other images.")
    return sentences


def evaluation_to_json(evaluation: Evaluation) -> str:
    """Encode an evaluation as JSON, rounded to `DIGITS` decimals; undefined scores are null."""
    names = [category.name for category in evaluation.categories]
    masks = evaluation.masks
    content = {
        "protocol": evaluation.protocol,
        "truth": evaluation.truth,
        "classes": names,
        "learnt_on": list(evaluation.learnt_on),
        "scored_on": list(evaluation.scored_on),
        "images": dict(evaluation.images),
        "caveats": caveats(evaluation),
        "skipped": sorted(evaluation.skipped),
        "cluster_classes": evaluation.mapping.tolist(),
        "cluster_pixels": evaluation.clusters.counts.tolist(),
        "unlabelled_pixels": evaluation.clusters.unlabelled.tolist(),
        "ratings": {name: asdict(rating) for name, rating in evaluation.ratings.items()},
        "masks": {
            **{name: getattr(masks, name) for name in MASK_SCORES},
            "accuracy": evaluation.mask_accuracy,
            "purity": evaluation.mask_purity,
        },
        "best": {score.record.image_id: score.accuracy for score in evaluation.best},
        "worst": {score.record.image_id: score.accuracy for score in evaluation.worst},
    }
    return json.dumps(_rounded(content), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _rate(
    table: Contingency, mapping: Int[np.ndarray, " K"], one_to_one: Int[np.ndarray, " K"]
) -> Rating:
    covered = table.covered()
    labelled = int(covered.counts.sum())
    total = labelled + int(table.unlabelled.sum())
    return Rating(
        everywhere=scores(table, mapping),
        covered=scores(covered, mapping),
        one_to_one=scores(table, one_to_one).OA,
        coverage=labelled / total if total else math.nan,
        agreement=agreement(table),
    )


def _add(a: Tables, b: Tables) -> Tables:
    return {name: a[name] + b[name] for name in a}


def _accuracy(score: ImageScore) -> float:
    return score.accuracy


def _rounded(value: Any) -> Any:
    """Round floats at any nesting depth to `DIGITS` decimals; non-finite ones become None."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value
