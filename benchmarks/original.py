"""The original's pipeline (ALPS, arXiv 2406.10855), from images to index maps.

python -m benchmarks.original IMAGES OUT [--batch 64] [--k 46]

segment_anything's generator with its default settings except for the grid, then the steps of
`benchmarks.reference`; the encoder runs once more for the features. This favours the original over
its own code: masks and features stay in memory instead of one PNG and one .npy per mask, and two
matrix products compute the features instead of a product of the whole embedding with each mask.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator

from alps.images.files.read import read_image
from alps.sam.load import load_segmenter
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.measure import one_thread
from benchmarks.reference import ReferenceFeatures, assign, fit, paint_files

SIDE = 16  # points per side of the grid


def find_masks(generator: SamAutomaticMaskGenerator, sample: Sample) -> Masks:
    """Return all masks of an image in the order of the generator."""
    found = [mask["segmentation"] for mask in generator.generate(sample.image)]
    return Masks.from_array(np.stack(found)) if found else Masks.empty(sample.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="folder of PNG files")
    parser.add_argument("out", type=Path, help="folder for the index maps")
    parser.add_argument("--batch", type=int, default=64, help="points at once")
    parser.add_argument("--k", type=int, default=46, help="clusters")
    args = parser.parse_args()
    one_thread()
    segmenter = load_segmenter("mobile", device="cpu")
    generator = SamAutomaticMaskGenerator(
        segmenter.model, points_per_side=SIDE, points_per_batch=args.batch
    )
    features = ReferenceFeatures(segmenter=segmenter)
    paths = sorted(args.images.glob("*.png"))
    masks, rows = [], []
    for path in paths:
        sample = Sample(path.stem, read_image(path))
        masks.append(find_masks(generator, sample))
        empty = np.zeros((0, features.channels), np.float32)
        rows.append(features(sample, masks[-1]) if len(masks[-1]) else empty)
    classes = assign(rows, fit(rows, args.k, seed=0))
    args.out.mkdir(parents=True)
    for path, of_image, ids in zip(paths, masks, classes, strict=True):
        Image.fromarray(paint_files(of_image, ids)).save(args.out / path.name)
    print(sum(map(len, masks)))


if __name__ == "__main__":
    main()
