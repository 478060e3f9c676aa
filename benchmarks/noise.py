"""Compare ways to pre-train on noisy labels: losses, label smoothing, ignored borders.

python -m benchmarks.noise --store DIR --keep DIR [--seeds 0 1 2] [--jobs 2]

A network starts from ImageNet weights, learns the train patches of a store in one of these ways,
then 5 % of potsdam224's with cross-entropy, and is scored on the val patches; "no pre-training"
learns only the latter. With the same seed, all see the same patches, crops and colours in the same
order. Results are kept: the same command resumes an interrupted grid.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

from alps.store.label_store import LabelStore
from benchmarks.labels import Table, spread
from benchmarks.measure import arguments, report
from benchmarks.training_run import Result, TrainingRun, schedule
from benchmarks.transfer import CLASSES, COMMON, IMAGENET

#: Overrides of pre-training.
WAYS = {
    "cross-entropy": (),
    "label smoothing 0.1": ("loss.label_smoothing=0.1",),
    "generalised cross-entropy": ("loss=generalized_cross_entropy",),
    "symmetric cross-entropy": ("loss=symmetric_cross_entropy",),
    "bootstrapped, hard": ("loss=bootstrapped_cross_entropy",),
    "bootstrapped, soft": ("loss=bootstrapped_cross_entropy", "loss.hard=false", "loss.beta=0.95"),
    "borders of 2 px ignored": ("data.ignore_border=2",),
}
NONE = "no pre-training"
FRACTION = 0.05


def learn(args: argparse.Namespace, start: tuple[int, str]) -> Result:
    """Pre-train in one way, or not at all, and fine-tune."""
    seed, way = start
    folder = args.keep / f"{way.replace(' ', '_').replace(',', '')}_seed{seed}"
    # A store that was labelled anew is another start.
    labels = LabelStore(args.store).info.stages["assign"]["fingerprint"]
    common = (*COMMON, *args.overrides, f"seed={seed}", f"name=noise_{labels}")
    init = IMAGENET
    if way != NONE:
        overrides = ("stage=pretrain", "dataset=store", f"dataset.root={args.store}", *WAYS[way])
        steps = schedule(args.pretrain_steps)
        TrainingRun(folder / "pretrain", init, (*overrides, *common, *steps))()
        init = str(folder / "pretrain/last.ckpt")
    truth = ("dataset=folder_pair", f"dataset.root={args.data / 'potsdam224'}", CLASSES)
    share = (f"data.fraction={FRACTION}", *schedule(args.steps))
    return TrainingRun(folder / "finetune", init, ("stage=finetune", *truth, *common, *share))()


def tabulate(results: dict[tuple[int, str], Result]) -> Table:
    """Return one row per way: mean val/mIoU over the seeds, and differences per seed in points."""
    seeds = list(dict.fromkeys(seed for seed, _ in results))
    rows = []
    for way in (NONE, *WAYS):
        scores = [100 * results[seed, way].scores["mIoU"] for seed in seeds]
        plain = [100 * results[seed, "cross-entropy"].scores["mIoU"] for seed in seeds]
        more = [score - other for score, other in zip(scores, plain, strict=True)]
        rows.append([way, spread(scores), *(f"{points:+.1f}" for points in more)])
    columns = [
        "pre-trained with",
        "val/mIoU",
        *(f"seed {s}: difference to cross-entropy" for s in seeds),
    ]
    return columns, rows


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--store", type=Path, required=True, help="label store to pre-train on")
    parser.add_argument("--keep", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument(
        "--overrides", nargs="+", default=[], help="overrides for all runs of train.py"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown, too")
    args = parser.parse_args()
    starts = list(product(args.seeds, (NONE, *WAYS)))
    with ThreadPoolExecutor(args.jobs) as pool:
        results = dict(zip(starts, pool.map(partial(learn, args), starts), strict=True))
    table = tabulate(results)
    line = f"{args.pretrain_steps} steps of pre-training, {args.steps} of fine-tuning"
    report([("fine-tuned on 5 % of the patches, in %", *table)], args.markdown, line)


if __name__ == "__main__":
    main()
