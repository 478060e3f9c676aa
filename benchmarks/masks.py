"""Measure quality and cost of masks: thresholds, area limit, superpixels, screening.

python -m benchmarks.masks [--patches 30] [--markdown FILE]

Patches of Potsdam with a class per pixel, 16 × 16 points unless the row states otherwise, without
the encoder. Oracle: every mask has its best class.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alps.images.pixels.folder_pair import FolderPair
from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.metrics.masks import Tally, tally
from alps.sam.load import load_segmenter
from alps.structures import rle
from alps.structures.masks import Masks
from benchmarks.measure import Spread, arguments, console, interleave, markdown, one_thread, show
from benchmarks.patches import IGNORE_INDEX, NUM_CLASSES

LOW = {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.85}
AUTO = "masks=auto"
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "masks=alps_paper": {"max_area": 0.3},
    "SAM's thresholds": {},
    "the same, superpixels": {"ground": 16},
    "lower thresholds": LOW,
    AUTO: {**LOW, "ground": 16},
    "masks=screened": {**LOW, "ground": 16, "screen": True},
    "the same, 32 x 32 points": {**LOW, "ground": 16, "screen": True, "points_per_side": 32},
}
#: Regions of fewer pixels need not be recalled.
MIN_AREA = 5
SAME = 0.9  # IoU


def quality(total: Tally) -> list[str]:
    """Return the cells of a row: masks per image, then per cent."""
    oracle = total.oracle
    right = oracle.counts.diagonal().sum() / (oracle.counts.sum() + oracle.unlabelled.sum())
    shares = [
        *(total.coverage, total.ar_100, total.ar_1000, right, total.achievable_accuracy),
        *(total.undersegmentation_error, total.boundary_iou, total.boundary_f1),
    ]
    return [f"{total.masks_per_image:.1f}", *(f"{100 * share:.1f}" for share in shares)]


def same(of: Masks, among: Masks) -> tuple[int, int]:
    """Return how many masks have a nearly equal one among others, and how many there are."""
    if not len(of) or not len(among):
        return 0, len(of)
    iou = rle.iou(of.counts, among.counts, of.size)
    return int((iou.max(axis=1) >= SAME).sum()), len(of)


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--patches", type=int, default=30)
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown, too")
    args = parser.parse_args()
    one_thread()
    truth = FolderPair(root=str(args.data / "potsdam224"))
    records = [record for record in truth.records() if record.split == "val"]
    chosen = np.random.default_rng(0).permutation(len(records))[: args.patches]
    segmenter = load_segmenter("mobile", device="cpu")
    sources = {
        name: AutoMasks(segmenter=segmenter, **{**SAM_SETTINGS, "points_per_side": 16, **settings})
        for name, settings in SETTINGS.items()
    }
    totals: dict[str, Tally] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    found = {name: np.zeros((2, 2), int) for name in sources}  # of auto's in it, of its in auto's
    for record in tqdm([records[i] for i in chosen], unit="patch"):
        sample, target = truth.read(record), truth.read_target(record)
        segmenter.embed(sample.image)
        peers = {name: partial(source, sample) for name, source in sources.items()}
        masks, spent = interleave(peers, 1)
        for name, own in masks.items():
            scores = tally(own, target, NUM_CLASSES, IGNORE_INDEX, min_area=MIN_AREA)
            totals[name] = totals[name] + scores if name in totals else scores
            seconds[name] += spent[name]
            found[name] += [same(masks[AUTO], own), same(own, masks[AUTO])]
    rows = []
    for name, total in totals.items():
        recall, precision = 100 * found[name][:, 0] / found[name][:, 1]
        cost = np.array(seconds[name]) / np.array(seconds[AUTO])
        rows.append(
            [
                *(name, *quality(total), f"{recall:.1f}", f"{precision:.1f}"),
                *(Spread.of(seconds[name]), Spread.of(cost)),
            ]
        )
    columns = [
        *("", "masks", "coverage", "AR@100", "AR@1000", "oracle", "achievable", "under-seg."),
        *("boundary IoU", "boundary F1", "of auto's", "in auto's", "CPU s", "cost / auto's"),
    ]
    show(f"{len(chosen)} patches, per cent", columns, rows)
    if args.markdown:
        args.markdown.write_text(markdown(columns, rows))
        console.print(f"{args.markdown} holds the table")


if __name__ == "__main__":
    main()
