"""Ways to give masks their classes: the original's, ours with several features, controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer

from alps.assign.cluster import Cluster
from alps.features.joined import JoinedFeatures
from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.features.sscd import SscdFeatures
from alps.features.timm import TimmFeatures
from alps.metrics.masks import oracle
from alps.paint import paint
from alps.sam.segmenter import load_segmenter
from alps.types import Featurizer, Masks
from benchmarks import reference
from benchmarks.patches import IGNORE_INDEX, NUM_CLASSES, Patch, mask_features, squares

#: Side of the squares that stand in for masks, in pixels.
SQUARE = 16

Rows = Sequence[Float[np.ndarray, "_ C"]]
Classes = Sequence[Int[np.ndarray, " _"]]


def paint_ours(masks: Masks, category_id: Int[np.ndarray, " N"]) -> Integer[np.ndarray, "H W"]:
    """Small masks over large ones; bare ground is not labelled."""
    return paint(masks, category_id, IGNORE_INDEX)


def paint_reference(masks: Masks, category_id: Int[np.ndarray, " N"]) -> Integer[np.ndarray, "H W"]:
    """The original's index map, but bare ground is not labelled: the same rule for everybody."""
    labels = reference.paint_files(masks, category_id)
    labels[~masks.dense().any(axis=0)] = IGNORE_INDEX
    return labels


@dataclass(frozen=True, slots=True)
class Method:
    """A way from masks to index maps.

    Args:
        patches: images and masks.
        classes: from k and a seed to a class per mask of each patch.
        paint: from the masks of a patch and their classes to its index map.
        seconds: of CPU that the features of a patch take.
    """

    patches: Sequence[Patch]
    classes: Callable[[int, int], Classes]
    paint: Callable[[Masks, Int[np.ndarray, " N"]], Integer[np.ndarray, "H W"]] = paint_ours
    seconds: float | None = None


def our_classes(rows: Rows, train: int, k: int, seed: int) -> Classes:
    """Clusters of the first ``train`` patches; features as a store keeps them."""
    blocks = [of_image.astype(np.float16) for of_image in rows]
    cluster = Cluster(k=k, seed=seed)
    clusters = cluster.fit(blocks[:train])
    return [cluster.assign(block, clusters)[0] for block in blocks]


def reference_classes(rows: Rows, train: int, k: int, seed: int) -> Classes:
    """The same of the original."""
    return reference.assign(rows, reference.fit(rows[:train], k, seed))


def random_classes(patches: Sequence[Patch], k: int, seed: int) -> Classes:
    """Any of k."""
    rng = np.random.default_rng(seed)
    return [rng.integers(k, size=len(patch.masks)) for patch in patches]


def best_classes(patches: Sequence[Patch], *_: int) -> Classes:
    """The class most frequent in each mask, whatever k and seed."""
    return [oracle(p.masks, p.target, NUM_CLASSES, IGNORE_INDEX) for p in patches]


def methods(patches: Sequence[Patch], keep: Path | None) -> Iterator[tuple[str, Method]]:
    """All rows of the tables; features are made when their turn comes.

    Args:
        patches: those of train first.
        keep: folder for features, see `mask_features`.
    """
    train = sum(patch.split == "train" for patch in patches)
    segmenter = load_segmenter("mobile", device="cpu")
    timm = TimmFeatures(device="cpu")
    joined = JoinedFeatures(parts={"timm": timm, "shape": ShapeFeatures()})
    yield "random", Method(patches, partial(random_classes, patches))

    rows, seconds = mask_features(patches, reference.ReferenceFeatures(segmenter=segmenter), keep)
    classes = partial(reference_classes, rows, train)
    yield "reference", Method(patches, classes, paint_reference, seconds)
    small = [p.masks.area <= reference.MAX_AREA * p.target.size for p in patches]
    gated = [replace(p, masks=p.masks[few]) for p, few in zip(patches, small, strict=True)]
    rows = [of_image[few] for of_image, few in zip(rows, small, strict=True)]
    classes = partial(reference_classes, rows, train)
    yield "reference, as published", Method(gated, classes, reference.paint_files, seconds)

    ours: dict[str, Featurizer] = {
        "sam": SamFeatures(segmenter=segmenter),
        "sscd": SscdFeatures(),
        "timm": timm,
        "joined": joined,
    }
    for name, features in ours.items():
        rows, seconds = mask_features(patches, features, keep)
        yield name, Method(patches, partial(our_classes, rows, train), seconds=seconds)
    cut = [replace(patch, masks=squares(patch.sample.size, SQUARE)) for patch in patches]
    rows, seconds = mask_features(cut, joined, keep)
    name = f"joined, squares of {SQUARE} px"
    yield name, Method(cut, partial(our_classes, rows, train), seconds=seconds)
    yield "oracle", Method(patches, partial(best_classes, patches))
