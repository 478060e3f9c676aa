"""Measure the benefit of pre-training on pseudo-labels: fine-tune from scratch and from each store.

python -m benchmarks.pretraining --stores ours=DIR random=DIR binary=DIR --keep DIR [--jobs 2]

From random weights a network learns the train patches of a store, then those of potsdam224 or a
share of them, and is scored on the val patches; "none" learns only the latter. All runs are
train.py's, with one thread each. With the same seed, all starts see the same patches, crops and
colours in the same order, so that only their initial weights differ. Results are kept: the same
command resumes an interrupted grid.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from alps.store.label_store import LabelStore
from benchmarks.labels import Table, spread
from benchmarks.measure import arguments, console, report

TRAIN = Path(__file__).parents[1] / "train.py"
#: What both phases of every run have in common: the net, its food, its rate.
COMMON = (
    *("model=efficientnet_lite0", "head=upernet", "head.channels=128"),
    *("data.crop=128", "data.batch_size=8", "data.num_workers=0"),
    # From random weights, 200 steps on all patches, seed 0: mIoU .171 at a rate of 3e-4 and .227 at
    # 1e-3, both with a warm-up of 0.02; .273 with these.
    *("optim.lr=0.003", "optim.warmup=0.1"),
    "window.crop=224",  # a patch at once: a third of the time of windows of 128
    *("+callbacks.last.save_weights_only=true", "+callbacks.checkpoint.save_top_k=0"),
)
CLASSES = "dataset.classes=[impervious_surface,building,low_vegetation,tree,car,clutter]"
#: The start that the others are compared with.
NONE = "none"
PRETRAIN = "pretrain"


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one run: scores of its last weights by name, and its CPU seconds."""

    scores: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run of train.py, whose result is kept.

    Args:
        folder: folder of this run; holds its files and its result.
        init: the checkpoint to start from; None: random weights.
        overrides: the other arguments of the command, to which a kept result belongs.
    """

    folder: Path
    init: Path | None
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        """Return the kept result, or run from the beginning; an interrupted run is discarded.

        Raises:
            RuntimeError: the folder holds the result of another run, or the run failed.
        """
        kept = self.folder / "result.json"
        if kept.is_file():
            record = json.loads(kept.read_text())
            if other := set(record["words"]) ^ set(self.overrides):
                raise RuntimeError(
                    f"{kept} is of another run, which differs in {', '.join(sorted(other))}; "
                    "give another folder as --keep"
                )
            return Result(record["scores"], record["seconds"])
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        seconds = self._learn()
        result = Result(seconds=seconds, scores=self._scores())
        record = {"words": self.overrides, "seconds": result.seconds, "scores": result.scores}
        kept.write_text(json.dumps(record, indent=1))
        line = f"{self.folder}: mIoU {result.scores['mIoU']:.4f}, {result.seconds:.0f} CPU s"
        console.print(line, highlight=False, soft_wrap=True)
        return result

    def _learn(self) -> float:
        """Run train.py and return its CPU seconds."""
        places = (f"run={self.folder}", f"init={self.init or 'null'}")
        command = [sys.executable, str(TRAIN), *self.overrides, *places]
        log = self.folder / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            _, status, usage = os.wait4(process.pid, 0)  # `wait` would not tell the time it took
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            last = log.read_text().strip().rpartition("\n")[2]
            raise RuntimeError(f"a run failed ({process.returncode}): {last}; see {log}")
        return usage.ru_utime + usage.ru_stime

    def _scores(self) -> dict[str, float]:
        """Return the scores of the validation after the last step: mIoU, mF1, OA, IoU/<class>."""
        with (self.folder / "csv/version_0/metrics.csv").open() as file:
            row = next(row for row in csv.DictReader(file) if row["val/mIoU"])
        return {
            name.removeprefix("val/"): float(value)
            for name, value in row.items()
            if name.startswith("val/")
        }


#: By start and seed: the result of each phase, pre-training and each share of the patches.
Found = dict[tuple[str, int], dict[str, Result]]


def learn(args: argparse.Namespace, start: tuple[str, int]) -> dict[str, Result]:
    """Pre-train on a store if there is one, then fine-tune on each share of the patches."""
    name, seed = start
    folder = args.keep / f"{name}_seed{seed}"
    store = args.stores.get(name)
    # A store that was labelled anew is another start.
    title = name if store is None else f"{name}_{fingerprint(store)}"
    common = (*COMMON, *args.overrides, f"seed={seed}", f"name={title}")
    init, results = None, {}
    if store is not None:
        overrides = ("stage=pretrain", "dataset=store", f"dataset.root={store}")
        steps = schedule(args.pretrain_steps)
        run = Run(folder / PRETRAIN, None, (*overrides, *common, *steps))
        results[PRETRAIN] = run()
        init = run.folder / "last.ckpt"
    truth = f"dataset.root={args.data / 'potsdam224'}"
    overrides = ("stage=finetune", "dataset=folder_pair", truth, CLASSES, *common)
    for fraction in args.fractions:
        share = (f"data.fraction={fraction}", *schedule(args.steps))
        results[per_cent(fraction)] = Run(folder / f"{fraction}", init, (*overrides, *share))()
    return results


def fingerprint(store: Path) -> str:
    """Return the fingerprint of the labels."""
    return str(LabelStore(store).info.stages["assign"]["fingerprint"])


def schedule(steps: int) -> tuple[str, str]:
    """Return the overrides for a number of steps with one validation at the end."""
    return f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"


def per_cent(fraction: float) -> str:
    return f"{100 * fraction:g} %"


def values(found: Found, start: str, share: str, score: str) -> list[float]:
    """Return the values in per cent, one per seed."""
    return [100 * of[share].scores[score] for (name, _), of in found.items() if name == start]


def cost(found: Found, start: str, phases: Sequence[str]) -> str:
    """Return the mean CPU seconds of a run."""
    runs = [of[phase] for (name, _), of in found.items() if name == start for phase in phases]
    return f"{np.mean([run.seconds for run in runs]):.0f}"


def tabulate(found: Found, shares: Sequence[str]) -> Table:
    """Return columns and one row per start: means over the seeds with minimum and maximum."""
    cells = [(share, score) for share in shares for score in ("mIoU", "OA")]
    phases = ("pre-training, CPU s", "fine-tuning, CPU s")
    rows = []
    for start in dict.fromkeys(name for name, _ in found):
        means = [spread(values(found, start, *cell)) for cell in cells]
        before = "0" if start == NONE else cost(found, start, [PRETRAIN])
        rows.append([start, *means, before, cost(found, start, shares)])
    return ["pre-trained on", *map(": ".join, cells), *phases], rows


def compare(found: Found, shares: Sequence[str]) -> Table:
    """Return by how many points of mIoU each start is better than none with the same seed."""
    seeds = [f"seed {seed}" for name, seed in found if name == NONE]
    cells = [(share, of) for share in shares for of in (*seeds, "mean")]
    rows = []
    for start in dict.fromkeys(name for name, _ in found if name != NONE):
        row = [start]
        for share in shares:
            ours, bare = (np.array(values(found, s, share, "mIoU")) for s in (start, NONE))
            more = ours - bare
            row += [f"{points:+.1f}" for points in (*more, more.mean())]
        rows.append(row)
    return ["pre-trained on", *map(", ".join, cells)], rows


def named_store(word: str) -> tuple[str, Path]:
    """Parse ``NAME=DIR``."""
    name, _, folder = word.partition("=")
    if not folder or name == NONE:
        raise argparse.ArgumentTypeError(f"{word}: expected NAME=DIR, NAME other than {NONE}")
    return name, Path(folder)


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--stores", type=named_store, nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--keep", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.05, 1.0])
    parser.add_argument("--pretrain-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument(
        "--overrides", nargs="+", default=[], help="overrides for all runs of train.py"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown, too")
    args = parser.parse_args()
    args.stores = dict(args.stores)
    # All starts with one seed before the next seed: a part of the grid can be compared, too.
    starts = [(name, seed) for seed, name in product(args.seeds, (NONE, *args.stores))]
    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(zip(starts, pool.map(partial(learn, args), starts), strict=True))
    shares = [per_cent(fraction) for fraction in args.fractions]
    tables = {
        "fine-tuned on a share of the patches, in %": tabulate(found, shares),
        f"points of mIoU more than {NONE} with the same seed": compare(found, shares),
    }
    line = (
        f"{args.pretrain_steps} steps of pre-training, {args.steps} of fine-tuning, seeds "
        f"{args.seeds}; seconds of whole processes, the validation included; "
        f"{' '.join((*COMMON, *args.overrides))}"
    )
    report(((title, *table) for title, table in tables.items()), args.markdown, line)


if __name__ == "__main__":
    main()
