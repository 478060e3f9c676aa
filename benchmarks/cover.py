"""Measure the benefit and the cost of further passes over uncovered pixels (`masks=cover`).

python -m benchmarks.cover

16 × 16 points on the two DOTA images and eight patches of Potsdam, or on the sample's plots.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from alps.images.files.read import read_image
from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.sam.load import load_segmenter
from alps.structures.records import Sample
from benchmarks.measure import (
    Spread,
    arguments,
    cpu_seconds,
    load_images,
    one_thread,
    sample_images,
    show,
)


def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    patches = sorted((args.data / "potsdam224/img_dir/val").glob("*.png"))[::13]
    images = load_images(args.data)
    images |= {path.stem: read_image(path) for path in patches} if patches else sample_images()
    segmenter = load_segmenter("mobile", device="cpu")
    sources = [
        AutoMasks(
            segmenter=segmenter,
            points_per_side=16,
            max_area=max_area,
            passes=passes,
            **SAM_SETTINGS,
        )
        for max_area in (0.95, 1.0)
        for passes in ((), ((0.8, 0.9), (0.7, 0.8), (0.5, 0.6)))
    ]
    figures = []
    for name, image in images.items():
        segmenter.embed(image)  # both need it, once
        row = []
        for source in sources:
            masks, seconds = cpu_seconds(partial(source, Sample(name, image)))
            coverage = float(masks.to_array().any(axis=0).mean()) if len(masks) else 0.0
            row.append((coverage, len(masks), seconds))
        figures.append(row)
    table = np.array(figures)  # images, sources, (coverage, masks, seconds)
    for i, max_area in ((0, 0.95), (2, 1.0)):
        one, cover = table[:, i], table[:, i + 1]
        rows = [
            ["coverage, %", Spread.of(one[:, 0] * 100), Spread.of(cover[:, 0] * 100)],
            ["masks", Spread.of(one[:, 1]), Spread.of(cover[:, 1])],
            ["CPU seconds without encoder", Spread.of(one[:, 2]), Spread.of(cover[:, 2])],
            ["cost against one pass", "1", Spread.of(cover[:, 2] / one[:, 2])],
        ]
        title = f"{len(figures)} images, max_area {max_area}: median (least-most)"
        show(title, ["", "one pass", "cover"], rows)


if __name__ == "__main__":
    main()
