"""Patches of Potsdam with a class per pixel, with the masks of label stores or plain squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from alps.images.files.labels import Labels
from alps.images.pixels.folder_pair import FolderPair
from alps.protocols import Featurizer
from alps.store.label_store import LabelStore
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.measure import cpu_seconds

#: Impervious surface, building, low vegetation, tree, car, clutter: the benchmarks' numbers.
NUM_CLASSES = 6
#: Road and car, building and clutter, vegetation and tree (Potsdam-3 of IIC, arXiv 1807.06653).
POTSDAM_3 = (0, 1, 2, 2, 0, 1)
IGNORE_INDEX = 255


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One image, its ground truth and its masks."""

    sample: Sample
    target: Labels
    masks: Masks
    split: str


def load_patches(stores: Sequence[Path], root: Path) -> list[Patch]:
    """Return all patches whose masks are finished, in the order of their files.

    Args:
        stores: label stores of ``dataset=folder_pair``, finished or not.
        root: folder that holds img_dir and ann_dir.
    """
    truth = FolderPair(root=str(root))
    records = {record.image_id: record for record in truth.records()}
    masks = {
        image_id: found
        for store in map(LabelStore, stores)
        for shard in range(len(store.plan))
        if store.has("masks", shard)
        for image_id, found in store.shard(shard).masks().items()
    }
    return [
        Patch(truth.read(record), truth.read_target(record), masks[image_id], record.split)
        for image_id, record in sorted(records.items())
        if image_id in masks
    ]


def squares(size: tuple[int, int], side: int) -> Masks:
    """Cut the image into squares with one mask each, as a baseline without SAM."""
    height, width = size
    return Masks.from_counts(
        [
            rle.encode_window(
                np.ones((min(side, height - y), min(side, width - x)), bool), x, y, size
            )
            for y in range(0, height, side)
            for x in range(0, width, side)
        ],
        size,
    )


def mask_features(
    patches: Sequence[Patch], features: Featurizer, keep: Path | None
) -> tuple[list[Float32[np.ndarray, "_ C"]], float]:
    """Return the features of each patch, and the CPU seconds of the median patch.

    Args:
        patches: images and masks.
        features: the featurizer; for SAM including its encoder.
        keep: folder for a file per patch, identified by settings and masks but not by code.
    """
    identity = repr(sorted(features.identity.items())).encode()
    rows, seconds = [], []
    for patch in tqdm(patches, str(features.identity["features"]), unit="patch", delay=1):
        key = sha256(b"\n".join([identity, patch.sample.image.tobytes(), *patch.masks.counts]))
        file = keep and keep / f"{key.hexdigest()}.npz"
        if file and file.exists():
            with np.load(file) as stored:
                found, spent = stored["rows"], float(stored["seconds"])
        elif len(patch.masks):
            found, spent = cpu_seconds(partial(features, patch.sample, patch.masks))
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                np.savez(file, rows=found, seconds=spent)
        else:
            found, spent = np.zeros((0, features.channels), np.float32), 0.0
        rows.append(found)
        seconds.append(spent)
    return rows, float(np.median(seconds))
