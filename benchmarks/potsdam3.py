"""Score the labels of the default recipe on Potsdam-3, the benchmark of unsupervised segmentation.

python -m benchmarks.potsdam3 --root DIR [--store DIR] [--points 32]

DIR contains 2_Ortho_RGB and 5_Labels_all of ISPRS Potsdam. The protocol is that of IIC (arXiv
1807.06653, its script potsdam_prepare.py) and STEGO (arXiv 2203.08414): the 24 training tiles are
halved to 10 cm and cut into 5400 crops of 200 px, of which 855 are for testing; the classes are
road and car, vegetation and tree, building and clutter. Three clusters are matched to them one to
one so that most pixels of the test crops agree (Hungarian), and all these pixels are scored.

Differences from the published figures:

- The test crops are others. IIC drew theirs without a seed and published the list under random
  names, so it cannot be derived from the tiles; here 855 are drawn with seed 0.
- Only RGB is used, as in STEGO; IIC also used infrared.
- The crops of the 14 tiles that had no labels then are not used; IIC trained on them, too.
- Clusters are fitted on all 5400 crops, including the test crops, as in IIC; STEGO excludes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np

import alps
from alps.evaluation.pseudo_labels import Evaluation
from alps.images.files.labels import Labels
from alps.images.pixels.potsdam import Potsdam
from alps.labelling.recipes import Recipe
from alps.metrics.clustering import hungarian, scores
from alps.metrics.segmentation import Scores
from alps.structures.records import Category, ImageRecord, Sample, number_classes
from benchmarks.measure import show
from benchmarks.patches import POTSDAM_3

SIDE = 200  # px of a crop, at half the resolution
TEST_FRACTION = 855 / 5400
#: Name and colour, in the order of `POTSDAM_3`.
CLASSES = (
    ("road and car", (255, 255, 255)),
    ("building and clutter", (0, 0, 255)),
    ("vegetation and tree", (0, 255, 0)),
)


class Potsdam3:
    """The crops of the 24 training tiles, of which a fixed random part is the split "test".

    Args:
        root: folder that contains the published files at any depth; the crops are written into it.
    """

    name = "potsdam3"
    ignore_index = Potsdam.ignore_index
    protocol = f"Potsdam-3, crops of {SIDE} px at 10 cm, RGB, other test crops than IIC's"

    def __init__(self, root: str) -> None:
        self.root = root
        self._tiles = Potsdam(root=root, num_classes=6, eroded=False, tile_size=2 * SIDE)

    def records(self) -> list[ImageRecord]:
        """Return all crops."""
        records = [record for record in self._tiles.records() if record.split == "train"]
        order = np.random.default_rng(0).permutation(len(records))
        for i in order[: round(TEST_FRACTION * len(records))].tolist():
            records[i] = replace(records[i], split="test")
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read a crop and halve it; raise `ImageError` if it cannot be read."""
        sample = self._tiles.read(record)
        image = cv2.resize(sample.image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        return Sample(sample.image_id, image)

    def categories(self) -> list[Category]:
        """Return the three classes."""
        return number_classes(CLASSES)

    def read_target(self, record: ImageRecord) -> Labels:
        """Read the index map of a crop; raise `LabelError` if it cannot be read."""
        labels = self._tiles.read_target(replace(record, split="train"))
        groups: Labels = np.array(POTSDAM_3, np.uint8)[labels[::2, ::2]]
        return groups


def score(images: Potsdam3, recipe: str | Recipe, store: Path, points_per_side: int = 32) -> Scores:
    """Label all crops with three clusters, and score the test crops.

    Args:
        images: the crops.
        recipe: name of a recipe with clusters, or a recipe.
        store: folder of the label store; an interrupted run is resumed.
        points_per_side: point prompts per row and column of a crop.

    Returns:
        The scores over the three classes; unlabelled pixels count as wrong.
    """
    labels = alps.label(images, recipe, k=3, store=store, points_per_side=points_per_side)
    clusters = cast(Evaluation, alps.evaluate(labels, images)).clusters
    return scores(clusters, hungarian(clusters))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="holds the files of ISPRS Potsdam")
    parser.add_argument("--store", type=Path, default=Path("data/potsdam3_pl"), help="to write")
    parser.add_argument("--points", type=int, default=32, help="point prompts per side of a crop")
    args = parser.parse_args(arguments)
    result = score(Potsdam3(str(args.root)), "alps", args.store, args.points)
    names = [name for name, _ in CLASSES]
    values = [result.OA, result.mIoU, *result.iou]
    rows = [[f"{100 * value:.1f}" for value in values]]
    show("Potsdam-3, per cent", ["accuracy", "mIoU", *(f"IoU {name}" for name in names)], rows)


if __name__ == "__main__":
    main()
