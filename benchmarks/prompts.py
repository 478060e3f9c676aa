"""Compare prompts for masks from boxes on NWPU VHR-10, whose objects have true masks.

python -m benchmarks.prompts [--images 220] [--markdown FILE]

Every prompt of masks=box and segment_anything's SamPredictor on the same images, weights and
encoder. Horizontal boxes and their centres are the annotated ones. Rotated boxes are fitted to the
true masks, so prompts that use them (*) contain more information than annotations. The differences
on three disjoint thirds of the images show whether they are consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from segment_anything import SamPredictor
from tqdm import tqdm

from alps.evaluation.objects import SIZES
from alps.images.boxes.coco import Coco
from alps.masks.box import BoxMasks
from alps.masks.limits import PROMPTS
from alps.sam.load import load_segmenter
from alps.sam.segmenter import SamSegmenter
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.measure import Spread, arguments, console, cpu_seconds, markdown, one_thread, show

STOCK = "SamPredictor, hbox"
LEAKY = ("rhbox", "rhbox_mask", "rbox_mask")
HBOX = "hbox"
WHOLE = 1 << 14  # px; no image is cut, as SamPredictor cuts none


def predict_stock(segmenter: SamSegmenter, sample: Sample) -> Masks:
    """Run SamPredictor with all horizontal boxes of an image, after its encoder."""
    assert sample.boxes is not None, "the caller saw to it"
    predictor = SamPredictor(segmenter.model)
    embedding = segmenter.embed(sample.image)
    predictor.features = embedding.features[None]
    predictor.original_size, predictor.input_size = embedding.size, embedding.input_size
    predictor.is_image_set = True
    boxes = predictor.transform.apply_boxes_torch(torch.tensor(sample.boxes.xyxy), sample.size)
    masks, _, _ = predictor.predict_torch(None, None, boxes, multimask_output=False)
    return Masks.from_counts(rle.encode(masks[:, 0].numpy()), sample.size)


def compare(found: Masks, true: Masks) -> Float[np.ndarray, " N"]:
    """Return the IoU of each mask with the true one."""
    pairs = zip(found.counts, true.counts, strict=True)
    return np.array([rle.iou([a], [b], true.size)[0, 0] for a, b in pairs])


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--images", type=int, default=220)
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown, too")
    args = parser.parse_args()
    one_thread()
    images = Coco(root=str(args.data / "vhr10"))
    records = images.records()
    records = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    segmenter = load_segmenter("mobile", device="cpu")
    box_masks = partial(BoxMasks, segmenter=segmenter, tile_size=WHOLE)
    peers: Mapping[str, Callable[[Sample], Masks]] = {
        STOCK: partial(predict_stock, segmenter),
        **{prompt: box_masks(prompt=prompt) for prompt in PROMPTS},
        "hbox, best of four": box_masks(best=True),
    }
    iou: dict[str, list[np.ndarray]] = {name: [] for name in peers}
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    area, encoder = [], []
    for record in tqdm(records[: args.images], unit="image"):
        sample = images.read(record)
        assert sample.boxes is not None, "Coco has them"
        true = images.read_instances(record, sample.boxes, sample.size)
        quads = rle.rotated_boxes(true.counts, true.size)
        leaky = replace(sample, boxes=replace(sample.boxes, quad=quads))
        _, spent = cpu_seconds(partial(segmenter.embed, sample.image))
        encoder.append(spent)
        for name, predict in peers.items():
            found, spent = cpu_seconds(partial(predict, leaky if name in LEAKY else sample))
            iou[name].append(compare(found, true))
            seconds[name].append(spent)
        area.append(true.area)
    report(iou, seconds, np.concatenate(area), encoder, args)


def report(
    iou: Mapping[str, list[np.ndarray]],
    seconds: Mapping[str, list[float]],
    area: np.ndarray,
    encoder: list[float],
    args: Any,
) -> None:
    """Print the table."""
    n = len(encoder)
    thirds = [range(i * n // 3, (i + 1) * n // 3) for i in range(3)]
    rows = []
    for name, values in iou.items():
        every = np.concatenate(values)
        sizes = [
            f"{every[(area >= low) & (area < high)].mean():.4f}" for low, high in SIZES.values()
        ]
        more = [
            np.concatenate([values[i] for i in third]).mean()
            - np.concatenate([iou[HBOX][i] for i in third]).mean()
            for third in thirds
        ]
        rows.append(
            [
                f"{name} *" if name in LEAKY else name,
                *(f"{every.mean():.4f}", *sizes),
                *(f"{100 * points:+.2f}" for points in more),
                str(Spread.of(seconds[name])),
            ]
        )
    counts = [int(((area >= low) & (area < high)).sum()) for low, high in SIZES.values()]
    columns = [
        *("", f"mean IoU ({len(area)})"),
        *(f"{size} ({count})" for size, count in zip(SIZES, counts, strict=True)),
        *("1st third", "2nd", "3rd", "CPU s an image"),
    ]
    show(f"{n} images; the encoder takes {Spread.of(encoder)} CPU s", columns, rows)
    if args.markdown:
        args.markdown.write_text(markdown(columns, rows))
        console.print(f"{args.markdown} holds the table")


if __name__ == "__main__":
    main()
