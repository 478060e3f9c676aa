"""Compare SAM with segment_anything: all masks of an image, memory, the floor, boxes.

python -m benchmarks.sam [--full] [--keep DIR] [--picture FILE] [--device cuda]

One thread of one process, CPU seconds, interleaved peers; `benchmarks.race` describes what is
composed. On a GPU: wall seconds of whole images, and boxes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from alps.sam.load import load_segmenter
from alps.sam.segmenter import SamSegmenter
from benchmarks import boxes, picture
from benchmarks.floor import show_floor
from benchmarks.measure import arguments, load_images, one_thread, show
from benchmarks.memory import PEERS, peak_memory
from benchmarks.race import BATCHES, race, show_race
from benchmarks.stages import watch_ours, watch_stock
from benchmarks.whole import show_whole


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--keep", type=Path, help="folder for the stock's masks, minutes each")
    parser.add_argument("--picture", type=Path, help="draw the stages of the first image (SVG)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    one_thread()
    segmenter = load_segmenter("mobile", device=args.device)
    if args.device != "cpu":
        measure_gpu(segmenter, args)
        return
    exact, fast = segmenter.decoders
    watches = {
        "stock": watch_stock(segmenter.model),
        "ours, exact": watch_ours(exact),
        "ours, fast": watch_ours(fast),
    }
    images = load_images(args.data)
    first = next(iter(images))
    batches = BATCHES
    for name, image in images.items():
        result = race(segmenter, watches, name, image, 5 if args.full else 3, batches)
        show_race(name, result)
        if name == first:
            floors = show_floor(segmenter, image, result)
            if args.picture:
                args.picture.write_text(picture.draw(name, result.stages, result.best, floors))
        best = int(result.best.split()[-1])
        show_whole(segmenter, name, image, best, name == first, args)
        if not args.full:  # other images meet the first one's best batch only
            batches = tuple({best, BATCHES[-1]})
    memory = {peer: peak_memory(args.data, first, peer) for peer in PEERS}
    show(
        f"{first}: peak memory above the model's",
        ["", "MiB", "x less than batch 64"],
        [
            [f"stock, batch {p}" if p.isdigit() else f"ours, {p}", f"{mb:.0f}",
             f"{memory['64'] / mb:.1f}"]
            for p, mb in memory.items()
        ],
    )  # fmt: skip
    rounds, each = (5, 100) if args.full else (3, 48)
    boxes.compare(segmenter, args.data, images[first], rounds, each)


def measure_gpu(segmenter: SamSegmenter, args: argparse.Namespace) -> None:
    """Measure whole images and boxes; parts of the grid would not fill a GPU."""
    images = load_images(args.data)
    args.full = True
    for name, image in images.items():
        segmenter.embed(image)  # warms up
        show_whole(segmenter, name, image, BATCHES[-1], True, args)
    boxes.compare(segmenter, args.data, next(iter(images.values())), 5, 100)


if __name__ == "__main__":
    main()
