"""The page about the evaluation of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from alps.evaluation.pseudo_labels import Evaluation, Rating, caveats, evaluation_to_json
from alps.protocols import LabelledSet
from alps.report.charts.numbers import count, percent, table_percent
from alps.report.pages.confusion import class_rows, cluster_rows, truth_pixels, unlabelled_cells
from alps.report.pages.rendering import render
from alps.report.pages.store import LONGEST, without_paths
from alps.report.pictures.gallery import gallery
from alps.store.label_store import LabelStore

FOUND_IOU = 0.25  # minimum IoU of a class that counts as found
CHIPS = 12  # maximum number of clusters in the row of a class
SKIPPED = 50  # maximum number of skipped images to list with the reason

#: Rows of the first table, by rating: (title, explanation).
ROWS = {
    "labels": ("these labels", "the classes in the store"),
    "oracle": (
        "oracle",
        "each mask with the most frequent class in it; uncovered pixels count as wrong",
    ),
    "random": ("random clusters", "the same masks with random clusters"),
    "binary": ("binary mask", "two clusters: inside a mask and outside"),
}
#: Columns of the first table: (title, explanation, value of a rating).
COLUMNS: Sequence[tuple[str, str, Callable[[Rating], float]]] = (
    (
        "accuracy",
        "Fraction of correct pixels. A pixel without a label counts as wrong.",
        lambda r: r.everywhere.OA,
    ),
    ("of covered", "Accuracy over the labelled pixels only.", lambda r: r.covered.OA),
    (
        "mIoU",
        "Mean of the classes' intersection over union of labels and ground truth: rare classes "
        "count as much as frequent classes.",
        lambda r: r.everywhere.mIoU,
    ),
    ("of covered", "mIoU over the labelled pixels only.", lambda r: r.covered.mIoU),
    (
        "one to one",
        "Accuracy with at most one cluster per class (the best matching): low if classes are split "
        "into many clusters.",
        lambda r: r.one_to_one,
    ),
    (
        "purity",
        "Fraction of the labelled pixels that belong to the most frequent class of their cluster, "
        "counted on the scored images.",
        lambda r: r.agreement.purity,
    ),
    (
        "homogeneity",
        "100% if each cluster contains pixels of one class only.",
        lambda r: r.agreement.homogeneity,
    ),
    (
        "completeness",
        "100% if all pixels of each class are in one cluster.",
        lambda r: r.agreement.completeness,
    ),
    (
        "NMI",
        "The harmonic mean of homogeneity and completeness, also called V-measure.",
        lambda r: r.agreement.nmi,
    ),
    (
        "ARI",
        "Adjusted Rand index: agreement of clusters and classes on pairs of pixels; 0 by chance.",
        lambda r: r.agreement.ari,
    ),
    ("coverage", "Fraction of the pixels that have a label.", lambda r: r.coverage),
)


def write_evaluation(store: LabelStore, image_set: LabelledSet, evaluation: Evaluation) -> Path:
    """Write evaluation.json and, as a self-contained page, evaluation.html into a store.

    The page needs no network and no script, and contains no time, host or absolute path.

    Args:
        store: the evaluated label store.
        image_set: images for the pictures; images that cannot be read are not shown.
        evaluation: the result of `alps.evaluation.pseudo_labels.evaluate`.

    Returns:
        The path of the page.

    Raises:
        StoreError: the files cannot be written.
    """
    order = np.argsort(-truth_pixels(evaluation), kind="stable")
    roots = [str(image_set.root), str(store.root), str(store.root.resolve())]
    clusters = store.categories()
    images = gallery(store, image_set, evaluation)
    html = render(
        "evaluation.html.jinja",
        store=store.info,
        evaluation=evaluation,
        order=order.tolist(),
        tiles=tiles(evaluation),
        caveats=caveats(evaluation),
        ladder=[
            (name, note, evaluation.ratings[key].everywhere.OA)
            for key, (name, note) in ROWS.items()
        ],
        columns=[(title, explanation) for title, explanation, _ in COLUMNS],
        rows=[
            (name, note, [table_percent(value(evaluation.ratings[key])) for _, _, value in COLUMNS])
            for key, (name, note) in ROWS.items()
        ],
        most_chips=CHIPS,
        classes=class_rows(evaluation, clusters, order),
        clusters=cluster_rows(evaluation, clusters, order),
        n_clusters=int(evaluation.clusters.counts.any(axis=1).sum()),
        unlabelled=unlabelled_cells(evaluation, order),
        masks=mask_scores(evaluation),
        gallery=images,
        any_nodata=any(image.has_nodata for _, part in images for image in part),
        skipped=[
            (image_id, without_paths(reason, roots)[:LONGEST])
            for image_id, reason in list(evaluation.skipped.items())[:SKIPPED]
        ],
    )
    store.write_text("evaluation.json", evaluation_to_json(evaluation))
    store.write_text("evaluation.html", html)
    return store.root / "evaluation.html"


def tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return (label, value, note) of the main scores; the notes have the scores of baselines."""
    labels, random, oracle = (evaluation.ratings[name] for name in ("labels", "random", "oracle"))
    present = np.flatnonzero(truth_pixels(evaluation)).tolist()
    missed = [c for c in present if labels.everywhere.iou[c] < FOUND_IOU]

    def with_baselines(value: Callable[[Rating], float]) -> tuple[str, str]:
        baselines = f"random {table_percent(value(random))}, oracle {table_percent(value(oracle))}"
        return table_percent(value(labels)), baselines

    return [
        ("accuracy", *with_baselines(lambda r: r.everywhere.OA)),
        ("mIoU", *with_baselines(lambda r: r.everywhere.mIoU)),
        (
            "classes found",
            f"{len(present) - len(missed)} of {len(present)}",
            f"with an IoU of {percent(FOUND_IOU)} or more"
            + (
                f"; missed: {', '.join(evaluation.categories[c].name for c in missed)}"
                if missed
                else ""
            ),
        ),
        ("coverage", table_percent(labels.coverage), "of the pixels have a label"),
        (
            "correct masks",
            table_percent(evaluation.mask_accuracy),
            "whose cluster is mapped to the most frequent class in them",
        ),
        (
            "images compared",
            count(sum(evaluation.images[split] for split in evaluation.scored_on)),
            f"{count(len(evaluation.skipped))} skipped",
        ),
    ]


def mask_scores(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return (name, value, explanation) of the scores of the masks."""
    masks = evaluation.masks
    return [
        (
            "coverage",
            table_percent(masks.coverage),
            "Fraction of the pixels inside at least one mask.",
        ),
        (
            "masks per image",
            f"{masks.masks_per_image:.1f}",
            "Mean number of masks.",
        ),
        (
            "AR@100",
            table_percent(masks.ar_100),
            "COCO's average recall of the ground-truth regions (connected parts of a class, at "
            "least 0.01% of the image) by the best 100 masks of an image, over IoU thresholds 0.5 "
            "to 0.95.",
        ),
        ("AR@1000", table_percent(masks.ar_1000), "Average recall by the best 1000 masks."),
        (
            "achievable segmentation accuracy",
            table_percent(masks.achievable_accuracy),
            "Fraction of correct pixels if each mask had the class of the region it overlaps most.",
        ),
        (
            "under-segmentation error",
            table_percent(masks.undersegmentation_error),
            "Pixels of masks outside the region that they overlap most, and pixels in no mask; "
            "lower is better.",
        ),
        (
            "boundary IoU",
            table_percent(masks.boundary_iou),
            "IoU of the pixels within 2% of the diagonal from the outlines, with the best class of "
            "each mask; it measures the accuracy of the outlines.",
        ),
        (
            "boundary F1",
            table_percent(masks.boundary_f1),
            "F1 score of outlines, which match within 0.75% of the diagonal.",
        ),
        (
            "purity of the masks",
            table_percent(evaluation.mask_purity),
            "Fraction of the masks that belong to the most frequent class of their cluster.",
        ),
    ]
