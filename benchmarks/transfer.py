"""Measure what pre-training on pseudo-labels is worth: fine-tune from each start on few labels.

python -m benchmarks.transfer --stores ours=DIR,DIR random=DIR,DIR --keep DIR [--jobs 2]

Starts: "imagenet"; each named group of label stores, on which a network with ImageNet weights is
pre-trained; and "longer", which takes as many steps more on the labelled share instead. Each start
is fine-tuned on shares of potsdam224's train patches and scored on its val patches with its last
weights. The learning rate of fine-tuning is chosen per start: the best of `RATES` with seed 0 on
`TUNING` other train patches ("longer" takes that of "imagenet"). All runs are train.py's, with one
thread each. With the same seed, all starts see the same patches, crops and colours in the same
order.

Every finished run adds a row to benchmarks/transfer.csv and is not repeated; pre-trained weights
and the counts of pixels, from which the intervals are computed, are kept in --keep.
"""

from __future__ import annotations

import argparse
import csv
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64

import alps
from alps.images.pixels.folder_pair import FolderPair
from alps.metrics.segmentation import confusion_matrix
from alps.store.label_store import LabelStore
from benchmarks.labels import Table, spread
from benchmarks.measure import arguments, one_thread, report
from benchmarks.patches import IGNORE_INDEX, NUM_CLASSES
from benchmarks.training_run import TrainingRun, schedule

RESULTS = Path(__file__).with_name("transfer.csv")
IMAGENET, LONGER = "imagenet", "longer"
#: What both phases of every run have in common.
COMMON = (
    *("model=efficientnet_lite0", "head=upernet", "head.channels=128"),
    *("data.crop=128", "data.batch_size=8", "data.num_workers=0"),
    *("optim.warmup=0.1", "window.crop=224"),  # a patch at once: a third of the time of windows
    *("+callbacks.last.save_weights_only=true", "+callbacks.checkpoint.save_top_k=0"),
)
CLASSES = "dataset.classes=[impervious_surface,building,low_vegetation,tree,car,clutter]"
PRETRAINING_RATE = 1e-3
RATES = (3e-4, 1e-3, 3e-3)
#: Number of train patches on which the rate is chosen, and the share of the others to learn from.
TUNING, TUNING_SHARE = 100, 0.05
TUNED = "tuning"
#: Resamples of the bootstrap.
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """A finished run of fine-tuning, as transfer.csv keeps it."""

    start: str
    labels: str  # fingerprints of the stores
    share: str  # of the train patches; or `TUNED`
    seed: int
    rate: float
    pretraining_steps: int
    steps: int
    mIoU: float  # noqa: N815 - the usual spelling
    OA: float
    cpu_seconds: int

    @property
    def key(self) -> tuple[object, ...]:
        """The settings of the run."""
        return (
            *(self.start, self.labels, self.share, self.seed),
            *(self.rate, self.pretraining_steps, self.steps),
        )


class Results:
    """The rows of a CSV file, to which finished runs are appended."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.rows: dict[tuple[object, ...], Row] = {}
        if file.is_file():
            with file.open(newline="") as lines:
                for cells in csv.DictReader(lines):
                    row = Row(
                        start=cells["start"],
                        labels=cells["labels"],
                        share=cells["share"],
                        seed=int(cells["seed"]),
                        rate=float(cells["rate"]),
                        pretraining_steps=int(cells["pretraining_steps"]),
                        steps=int(cells["steps"]),
                        mIoU=float(cells["mIoU"]),
                        OA=float(cells["OA"]),
                        cpu_seconds=int(cells["cpu_seconds"]),
                    )
                    self.rows[row.key] = row

    def add(self, row: Row) -> None:
        """Append a row to the file."""
        with self._lock:
            first = not self._file.exists()
            with self._file.open("a", newline="") as lines:
                writer = csv.writer(lines, lineterminator="\n")
                if first:
                    writer.writerow(Row.__slots__)
                writer.writerow([getattr(row, name) for name in Row.__slots__])
            self.rows[row.key] = row


@dataclass(frozen=True)
class Grid:
    """The settings of all runs.

    Args:
        data: folder with potsdam224.
        keep: folder for the runs.
        stores: label stores to pre-train on, by name of the start.
        pretraining_steps: steps of pre-training.
        steps: steps of fine-tuning.
        results: finished runs.
    """

    data: Path
    keep: Path
    stores: Mapping[str, Sequence[Path]]
    pretraining_steps: int
    steps: int
    results: Results
    _pretraining: defaultdict[Path, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock), repr=False
    )

    def labels(self, start: str) -> str:
        """Return the fingerprints of the stores of a start."""
        stores = [LabelStore(store) for store in self.stores.get(start, ())]
        return " ".join(str(store.info.stages["assign"]["fingerprint"])[:12] for store in stores)

    def pretrain(self, start: str, seed: int) -> str:
        """Return the initial weights of a start: ``imagenet`` or a checkpoint."""
        if not (stores := self.stores.get(start)):
            return IMAGENET
        names = [f"d{i}" for i in range(len(stores))]
        datasets = (
            ("dataset=store", f"dataset.root={stores[0]}")
            if len(stores) == 1
            else (
                *(f"+dataset@datasets.{name}=store" for name in names),
                *(f"datasets.{n}.root={store}" for n, store in zip(names, stores, strict=True)),
            )
        )
        folder = self.keep / f"{start}_seed{seed}_pretraining"
        run = TrainingRun(
            folder,
            IMAGENET,
            (
                *("stage=pretrain", *datasets, *COMMON, f"seed={seed}"),
                *(f"optim.lr={PRETRAINING_RATE}", f"name={self.labels(start).replace(' ', '_')}"),
                *schedule(self.pretraining_steps),
            ),
        )
        with self._pretraining[folder]:  # the runs of two shares start from the same weights
            run()
        return str(folder / "last.ckpt")

    def finetune(self, start: str, share: str, seed: int, rate: float) -> Row:
        """Return the finished row of a run, or run it."""
        pretraining_steps = 0 if start == IMAGENET else self.pretraining_steps
        steps = self.steps + (pretraining_steps if start == LONGER else 0)
        key = (start, self.labels(start), share, seed, rate, pretraining_steps, self.steps)
        if row := self.results.rows.get(key):
            return row
        init = self.pretrain(start, seed)
        root = self.keep / TUNED if share == TUNED else self.data / "potsdam224"
        fraction = TUNING_SHARE if share == TUNED else float(share)
        folder = self.run_folder(start, share, seed, rate)
        run = TrainingRun(
            folder,
            init,
            (
                *("stage=finetune", "dataset=folder_pair", f"dataset.root={root}", CLASSES),
                *(*COMMON, f"data.fraction={fraction}", f"seed={seed}", f"optim.lr={rate}"),
                *schedule(steps),
            ),
        )
        result = run()
        if share != TUNED:
            np.save(folder / "confusions.npy", confusions(folder / "last.ckpt", root))
        row = Row(
            start=start,
            labels=self.labels(start),
            share=share,
            seed=seed,
            rate=rate,
            pretraining_steps=pretraining_steps,
            steps=self.steps,
            mIoU=round(result.scores["mIoU"], 5),
            OA=round(result.scores["OA"], 5),
            cpu_seconds=round(result.seconds),
        )
        self.results.add(row)
        return row

    def run_folder(self, start: str, share: str, seed: int, rate: float) -> Path:
        """Return the folder of a run of fine-tuning."""
        return self.keep / f"{start}_seed{seed}_{share}_rate{rate:g}"

    def best_rate(self, start: str) -> float:
        """Return the rate with the best mIoU on the patches for tuning."""
        rows = [self.finetune(start, TUNED, 0, rate) for rate in RATES]
        return max(rows, key=lambda row: row.mIoU).rate


def link_tuning_patches(data: Path, target: Path) -> None:
    """Make a folder in which `TUNING` of the train patches are the val patches."""
    names = sorted(path.stem for path in (data / "potsdam224/img_dir/train").iterdir())
    tuning = set(np.random.default_rng(0).permutation(names)[:TUNING].tolist())
    for folder, name in product(("img_dir", "ann_dir"), names):
        link = target / folder / ("val" if name in tuning else "train") / f"{name}.png"
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((data / f"potsdam224/{folder}/train/{name}.png").resolve())


def confusions(checkpoint: Path, root: Path) -> Int64[np.ndarray, "images K K"]:
    """Return the confusion matrix of each val patch."""
    net = alps.load_net(checkpoint, device="cpu")
    truth = FolderPair(root=str(root))
    matrices = []
    for record in truth.records():
        if record.split == "val":
            prediction = net.predict(truth.read(record).image).astype(np.int64)
            target = truth.read_target(record).astype(np.int64)
            pair = torch.from_numpy(prediction), torch.from_numpy(target)
            matrices.append(confusion_matrix(*pair, NUM_CLASSES, IGNORE_INDEX).numpy())
    return np.stack(matrices)


def mean_iou(confusion: Float[np.ndarray, "*n K K"]) -> Float[np.ndarray, "*n"]:
    """Return the mean IoU in per cent over the classes that occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-1) + confusion.sum(axis=-2) - hits
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * np.nanmean(hits / union, axis=-1))


def interval(
    ours: Sequence[Int64[np.ndarray, "images K K"]],
    other: Sequence[Int64[np.ndarray, "images K K"]],
) -> tuple[float, float]:
    """Return the bootstrap interval (95 %) of a difference in mIoU, in points.

    Seeds and images are resampled, the same for both starts (a paired bootstrap).

    Args:
        ours: confusion matrices of the val patches, one array per seed.
        other: those of the start to compare with, with the same seeds.
    """
    rng = np.random.default_rng(0)
    n_seeds, n_images = len(ours), len(ours[0])
    weights = rng.multinomial(n_images, np.full(n_images, 1 / n_images), RESAMPLES)
    per_seed = []
    for a, b in zip(ours, other, strict=True):
        resampled = (np.tensordot(weights, confusion.astype(float), 1) for confusion in (a, b))
        first, second = (mean_iou(confusion) for confusion in resampled)
        per_seed.append(first - second)
    chosen = rng.integers(n_seeds, size=(RESAMPLES, n_seeds))
    means = np.take_along_axis(np.stack(per_seed, axis=1), chosen, axis=1).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def tabulate(grid: Grid, rates: Mapping[str, float], shares: Sequence[str]) -> Table:
    """Return one row per start: scores by share, and the difference from `IMAGENET`."""
    columns = ["start", "rate"]
    for share in shares:
        columns += [f"{per_cent(share)}: mIoU", "OA", f"against {IMAGENET}"]
    columns.append("CPU s a run")
    rows = []
    for start, rate in rates.items():
        cells: list[str] = [start, f"{rate:g}"]
        runs = list(finished(grid, start, rate))
        for share in shares:
            of_share = [row for row in runs if row.share == share]
            cells += [spread([100 * row.mIoU for row in of_share])] if of_share else ["not run"]
            cells += [spread([100 * row.OA for row in of_share])] if of_share else [""]
            cells.append(compare(grid, of_share, rates[IMAGENET]) if start != IMAGENET else "")
        cells.append(f"{np.mean([row.cpu_seconds for row in runs]):.0f}" if runs else "")
        rows.append(cells)
    return columns, rows


def finished(grid: Grid, start: str, rate: float) -> Iterator[Row]:
    """Yield the rows of a start with the chosen rate."""
    steps = 0 if start == IMAGENET else grid.pretraining_steps
    same = start, grid.labels(start), rate, steps, grid.steps
    for row in grid.results.rows.values():
        of_row = row.start, row.labels, row.rate, row.pretraining_steps, row.steps
        if of_row == same and row.share != TUNED:
            yield row


def compare(grid: Grid, rows: Sequence[Row], rate: float) -> str:
    """Return the difference in mIoU from `IMAGENET` with the same seeds, and its interval."""
    pairs = [
        (row, grid.results.rows.get((IMAGENET, "", row.share, row.seed, rate, 0, row.steps)))
        for row in rows
    ]
    both = [(row, other) for row, other in pairs if other]
    if not both:
        return ""
    difference = 100 * float(np.mean([row.mIoU - other.mIoU for row, other in both]))
    counts = [
        [
            grid.run_folder(row.start, row.share, row.seed, row.rate) / "confusions.npy"
            for row in pair
        ]
        for pair in both
    ]
    if not all(file.is_file() for pair in counts for file in pair):
        return f"{difference:+.1f}"
    ours, others = zip(*([np.load(file) for file in pair] for pair in counts), strict=True)
    low, high = interval(ours, others)
    return f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"


def per_cent(share: str) -> str:
    return f"{100 * float(share):g} %"


def named_stores(word: str) -> tuple[str, list[Path]]:
    """Parse ``NAME=DIR[,DIR]``."""
    name, _, folders = word.partition("=")
    if not folders or name in (IMAGENET, LONGER):
        raise argparse.ArgumentTypeError(
            f"{word}: expected NAME=DIR[,DIR], NAME other than {IMAGENET} and {LONGER}"
        )
    return name, [Path(folder) for folder in folders.split(",")]


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--stores", type=named_stores, nargs="+", default=[], metavar="NAME=DIR")
    parser.add_argument("--keep", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", nargs="+", default=["0.01", "0.05"])
    parser.add_argument("--pretraining-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning")
    parser.add_argument("--results", type=Path, default=RESULTS, help="rows of finished runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown, too")
    args = parser.parse_args()
    one_thread()
    grid = Grid(
        data=args.data.resolve(),
        keep=args.keep.resolve(),
        stores=dict(args.stores),
        pretraining_steps=args.pretraining_steps,
        steps=args.steps,
        results=Results(args.results),
    )
    starts = [IMAGENET, *grid.stores, LONGER]
    link_tuning_patches(grid.data, grid.keep / TUNED)
    with ThreadPoolExecutor(args.jobs) as pool:
        tuned = [IMAGENET, *grid.stores]
        rates = dict(zip(tuned, pool.map(grid.best_rate, tuned), strict=True))
        rates[LONGER] = rates[IMAGENET]
        # All starts with one seed before the next seed: a part of the grid can be compared.
        work = product(args.seeds, args.shares, starts)
        list(pool.map(lambda of: grid.finetune(of[2], of[1], of[0], rates[of[2]]), work))
    table = tabulate(grid, rates, args.shares)
    line = (
        f"{args.pretraining_steps} steps of pre-training at {PRETRAINING_RATE:g}, {args.steps} of "
        f"fine-tuning; rates chosen of {', '.join(f'{rate:g}' for rate in RATES)}; seeds "
        f"{args.seeds}; {' '.join(COMMON)}"
    )
    report([("fine-tuned on a share of the patches, in %", *table)], args.markdown, line)


if __name__ == "__main__":
    main()
