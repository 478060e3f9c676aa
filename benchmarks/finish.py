"""Measure the work on the masks of an image that follows SAM, by stage.

python -m benchmarks.finish [--rounds 5]

Masks with 16 × 16 points of the four images of the sample, cut to 1024 × 1024 pixels.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.features.timm import TimmFeatures
from alps.masks.auto import AutoMasks
from alps.masks.superpixels import add_superpixels
from alps.sam.load import load_segmenter
from alps.structures.paint import paint
from alps.structures.palette import distinct_colors, index_png
from alps.structures.records import Sample
from benchmarks.measure import Spread, arguments, interleave, one_thread, sample_images, show

CLASSES = 46
SUPERPIXEL = 16  # px


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    one_thread()
    segmenter = load_segmenter("mobile", device="cpu")
    source = AutoMasks(segmenter=segmenter, points_per_side=16, ground=0)
    timm, sam, shape = TimmFeatures(device="cpu"), SamFeatures(segmenter=segmenter), ShapeFeatures()
    colors = distinct_colors(CLASSES)
    rows = []
    for image_id, image in sample_images().items():
        sample = Sample(image_id, image)
        masks = source(sample)
        every = add_superpixels(masks, sample, SUPERPIXEL)
        category_id = np.arange(len(every)) % CLASSES
        index_map = paint(every, category_id, 255)
        segmenter.embed(image)  # in the cache of the segmenter from now on
        _, seconds = interleave(
            {
                "superpixels": partial(add_superpixels, masks, sample, SUPERPIXEL),
                "features=shape": partial(shape, sample, every),
                "features=sam, pooling": partial(sam, sample, every),
                "features=timm": partial(timm, sample, every),
                "index map": partial(paint, every, category_id, 255),
                "PNG": partial(index_png, index_map, colors, 255),
            },
            args.rounds,
        )
        title = f"{image_id[:9]}, {len(masks)} masks, {len(every) - len(masks)} superpixels"
        rows += [
            [f"{title}: {stage}", Spread.of(1000 * np.array(times))]
            for stage, times in seconds.items()
        ]
    show(f"{args.rounds} rounds", ["", "CPU ms"], rows)


if __name__ == "__main__":
    main()
