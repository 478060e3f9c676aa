"""What does an upper gate on mask area cost in small tiles? Coverage and oracle accuracy.

python -m benchmarks.gate [--patches 28]

Patches of Potsdam with pixel labels, 16 × 16 points. Oracle: every mask gets its best class.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from alps.images.read import read_image
from alps.masks.auto import AutoMasks
from alps.paint import paint
from alps.sam.segmenter import load_segmenter
from alps.types import Sample
from benchmarks.measure import arguments, one_thread, show

GATES = (0.3, 0.5, 0.8, 0.95, 1.0)


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--patches", type=int, default=28)
    args = parser.parse_args()
    one_thread()
    root = args.data / "potsdam224"
    files = sorted((root / "img_dir/train").glob("*.png"))[::18][: args.patches]
    find = AutoMasks(
        segmenter=load_segmenter("mobile", device="cpu"), points_per_side=16, threads=2
    )
    found = {gate: [0, 0] for gate in GATES}  # pixels covered, and right
    pixels = 0
    for file in files:
        with Image.open(root / "ann_dir/train" / file.name) as image:
            truth = np.asarray(image)
        masks = find(Sample(file.stem, read_image(file)))
        best = np.array([np.bincount(truth[mask]).argmax() for mask in masks.dense()], int)
        pixels += truth.size
        for gate in GATES:
            keep = masks.area <= gate * truth.size
            labels = paint(masks[keep], best[keep], ignore_index=255)
            found[gate][0] += int((labels != 255).sum())
            found[gate][1] += int((labels == truth).sum())
    rows = [
        [f"max_area {gate}", f"{covered / pixels:.3f}", f"{right / pixels:.3f}"]
        for gate, (covered, right) in found.items()
    ]
    show(f"{len(files)} patches", ["", "coverage", "oracle accuracy, all pixels"], rows)


if __name__ == "__main__":
    main()
