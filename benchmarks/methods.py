"""Methods that assign classes to masks: the original, ALPS with several features, controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer
from sklearn.cluster import KMeans

from alps.assign.cluster import Cluster
from alps.features.joined import JoinedFeatures
from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.features.sscd import SscdFeatures
from alps.features.timm import TimmFeatures
from alps.masks.superpixels import add_superpixels
from alps.metrics.clustering import Contingency, contingency
from alps.metrics.masks import oracle
from alps.protocols import Featurizer
from alps.sam.load import load_segmenter
from alps.structures.masks import Masks
from alps.structures.paint import ignore_index_for, paint
from benchmarks import reference
from benchmarks.patches import (
    IGNORE_INDEX,
    NUM_CLASSES,
    Patch,
    mask_features,
    squares,
)

#: Side of the squares that stand in for masks, in pixels.
SQUARE = 16
#: Side of the superpixels of `alps.masks.superpixels`: that of ``recipe=alps``.
GROUND = 16

Rows = Sequence[Float[np.ndarray, "_ C"]]
Classes = Sequence[Int[np.ndarray, " _"]]
Paint = Callable[[Masks, Int[np.ndarray, " N"]], Integer[np.ndarray, "H W"]]


def paint_reference(masks: Masks, category_id: Int[np.ndarray, " N"]) -> Integer[np.ndarray, "H W"]:
    """Paint the original's index map, but leave uncovered pixels unlabelled, as for all methods."""
    labels = reference.paint_files(masks, category_id)
    labels[~masks.to_array().any(axis=0)] = IGNORE_INDEX
    return labels


@dataclass(frozen=True)
class Method:
    """A method from masks to index maps.

    Args:
        patches: images and masks.
        classes: function from k and a seed to a class per mask of each patch.
        paint: function from the masks of a patch and their classes to its index map; None: small
            masks over large ones.
        seconds: CPU seconds for the features of a patch.
    """

    patches: Sequence[Patch]
    classes: Callable[[int, int], Classes]
    paint: Paint | None = None
    seconds: float | None = None

    def tables(self, k: int, seed: int) -> Iterator[Contingency]:
        """Return the contingency table of each patch; uncovered pixels are unlabelled."""
        n = max(k, NUM_CLASSES)
        for patch, ids, shown in zip(self.patches, self.classes(k, seed), self._shown, strict=True):
            if self.paint is None:
                counts = np.zeros((n, NUM_CLASSES), np.int64)
                np.add.at(counts, ids[ids >= 0], shown.counts[ids >= 0])
                yield Contingency(counts, shown.unlabelled + shown.counts[ids < 0].sum(axis=0))
            else:
                yield contingency(
                    *(self.paint(patch.masks, ids), patch.target, n, NUM_CLASSES),
                    unlabelled=IGNORE_INDEX,
                    ignore_index=IGNORE_INDEX,
                )

    @cached_property
    def _shown(self) -> list[Contingency]:
        """The visible pixels of each class per mask, with smaller masks on top."""
        tables = []
        for patch in self.patches:
            masks, nothing = patch.masks, ignore_index_for(len(patch.masks))
            tables.append(
                contingency(
                    paint(masks, np.arange(len(masks)), nothing),
                    *(patch.target, len(masks), NUM_CLASSES),
                    unlabelled=nothing,
                    ignore_index=IGNORE_INDEX,
                )
            )
        return tables


def our_classes(
    rows: Rows, patches: Sequence[Patch], k: int, seed: int, *, finer: int = 1, **options: Any
) -> Classes:
    """Cluster the train patches with ALPS, from features as a store keeps them.

    Args:
        rows: the features of each patch.
        patches: the patches, those of train first.
        k: number of classes.
        seed: seed of the clusters.
        finer: number of clusters merged into each class, on average.
        options: options of `Cluster` that differ from ``recipe=alps``.
    """
    train = train_of(patches)
    blocks = [of_image.astype(np.float16) for of_image in rows]
    merge = {"k": finer * k, "merge": k} if finer > 1 else {"k": k}
    cluster = Cluster(seed=seed, **{"weight": "area", **merge, **options})
    clusters = cluster.fit(blocks[:train], [patch.masks.area for patch in patches[:train]])
    return [cluster.assign(block, clusters)[0] for block in blocks]


def lloyd_classes(rows: Rows, patches: Sequence[Patch], k: int, seed: int) -> Classes:
    """Cluster with scikit-learn's full-batch k-means: all masks in memory, until convergence."""
    train = train_of(patches)
    blocks = [of_image.astype(np.float16).astype(np.float32) for of_image in rows]
    kmeans = KMeans(k, n_init=1, max_iter=1000, tol=0, random_state=seed)
    areas = np.concatenate([patch.masks.area for patch in patches[:train]])
    kmeans.fit(np.concatenate(blocks[:train]), sample_weight=areas)
    stops = np.cumsum([len(block) for block in blocks])
    return np.split(kmeans.predict(np.concatenate(blocks)), stops[:-1])


def reference_classes(rows: Rows, patches: Sequence[Patch], k: int, seed: int) -> Classes:
    """Cluster as the original does."""
    train = train_of(patches)
    return reference.assign(rows, reference.fit(rows[:train], k, seed))


def random_classes(patches: Sequence[Patch], k: int, seed: int) -> Classes:
    """Return a random one of k classes per mask."""
    rng = np.random.default_rng(seed)
    return [rng.integers(k, size=len(patch.masks)) for patch in patches]


def best_classes(patches: Sequence[Patch], *_: int) -> Classes:
    """Return the most frequent class in each mask, whatever k and seed."""
    return [oracle(p.masks, p.target, NUM_CLASSES, IGNORE_INDEX) for p in patches]


def train_of(patches: Sequence[Patch]) -> int:
    """Return the number of train patches, which come first."""
    return sum(patch.split == "train" for patch in patches)


def methods(patches: Sequence[Patch], keep: Path | None) -> Iterator[tuple[str, Method]]:
    """Yield all rows of the tables; features are computed when needed.

    Args:
        patches: the patches, those of train first.
        keep: folder for features, see `mask_features`.
    """
    segmenter = load_segmenter("mobile", device="cpu")
    timm = TimmFeatures(device="cpu")
    joined = JoinedFeatures(parts={"timm": timm, "shape": ShapeFeatures()})

    def ours_on(masks: Sequence[Patch], features: Featurizer, **options: Any) -> Method:
        rows, seconds = mask_features(masks, features, keep)
        classes = partial(our_classes, rows, masks, **options)
        return Method(masks, classes, seconds=seconds)

    yield "random", Method(patches, partial(random_classes, patches))
    rows, seconds = mask_features(patches, reference.ReferenceFeatures(segmenter=segmenter), keep)
    classes = partial(reference_classes, rows, patches)
    yield "reference", Method(patches, classes, paint_reference, seconds)
    small = [p.masks.area <= reference.MAX_AREA * p.target.size for p in patches]
    gated = [replace(p, masks=p.masks[few]) for p, few in zip(patches, small, strict=True)]
    rows = [of_image[few] for of_image, few in zip(rows, small, strict=True)]
    classes = partial(reference_classes, rows, gated)
    yield "reference, as published", Method(gated, classes, reference.paint_files, seconds)
    yield "sam", ours_on(patches, SamFeatures(segmenter=segmenter))
    yield "sscd", ours_on(patches, SscdFeatures())
    yield "timm", ours_on(patches, timm)
    yield "joined", ours_on(patches, joined)
    yield "joined, one pass", ours_on(patches, joined, niter=1)
    rows, seconds = mask_features(patches, joined, keep)
    yield "joined, Lloyd", Method(patches, partial(lloyd_classes, rows, patches), seconds=seconds)
    yield "joined, a mask counts 1", ours_on(patches, joined, weight="none")
    yield "joined, spherical", ours_on(patches, joined, metric="spherical")
    yield "joined, merged", ours_on(patches, joined, finer=3)
    whole = [replace(p, masks=add_superpixels(p.masks, p.sample, GROUND)) for p in patches]
    yield "joined, ground: recipe=alps", ours_on(whole, joined)
    cut = [replace(patch, masks=squares(patch.sample.size, SQUARE)) for patch in patches]
    yield f"joined, squares of {SQUARE} px", ours_on(cut, joined)
    yield "oracle", Method(patches, partial(best_classes, patches))
    yield "oracle, ground", Method(whole, partial(best_classes, whole))
