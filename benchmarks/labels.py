"""Measure the quality of pseudo-labels by features and number of clusters, against the original.

python -m benchmarks.labels --masks STORE... [--keep DIR] [--markdown FILE]

The stores hold masks of potsdam224's train and val patches (`label.py +dataset=folder_pair`);
unfinished shards are skipped. Clusters, and the class assigned to each, are fitted on train and
scored on val. Prints means over the seeds with minimum and maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from alps.metrics.clustering import (
    Contingency,
    agreement,
    hungarian,
    majority,
    scores,
)
from alps.store.label_store import LabelStore
from benchmarks.measure import arguments, one_thread, report
from benchmarks.methods import Method, methods
from benchmarks.patches import POTSDAM_3, Patch, load_patches

#: How well clusters do when each stands for the class most frequent in it.
MAJORITY = (
    *("accuracy", "of covered", "mIoU", "mIoU of covered"),
    *("accuracy, 3 classes", "NMI", "coverage"),
)
#: And when a class has one cluster alone: so many clusters for so many classes.
ONE_TO_ONE = {6: "6 to 6", 3: "3 to 3"}

Found = dict[str, dict[int, dict[str, str]]]  # method, k, column
Table = tuple[list[str], list[list[str]]]


def count(method: Method, k: int, seed: int) -> dict[str, Contingency]:
    """Return the contingency table of each split."""
    tables: dict[str, Contingency] = {}
    for patch, table in zip(method.patches, method.tables(k, seed), strict=True):
        tables[patch.split] = table + tables[patch.split] if patch.split in tables else table
    return tables


def score(train: Contingency, val: Contingency) -> dict[str, float]:
    """Return the values of the columns for one seed, in per cent."""
    mapping = majority(train)
    everywhere, covered = scores(val, mapping), scores(val.covered(), mapping)
    train_3, val_3 = train.group(POTSDAM_3), val.group(POTSDAM_3)
    shares = {
        "accuracy": everywhere.OA,
        "of covered": covered.OA,
        "mIoU": everywhere.mIoU,
        "mIoU of covered": covered.mIoU,
        "accuracy, 3 classes": scores(val_3, majority(train_3)).OA,
        "NMI": agreement(val).nmi,
        "coverage": val.counts.sum() / (val.counts.sum() + val.unlabelled.sum()),
        "6 to 6": scores(val, hungarian(train)).OA,
        "3 to 3": scores(val_3, hungarian(train_3)).OA,
    }
    return {name: 100 * float(share) for name, share in shares.items()}


def spread(values: Sequence[float]) -> str:
    """Return the mean (minimum-maximum)."""
    low, high = min(values), max(values)
    return f"{np.mean(values):.1f}" + (f" ({low:.1f}-{high:.1f})" if high > low else "")


def tabulate(found: Found, seconds: Mapping[str, str], ks: Sequence[int]) -> dict[str, Table]:
    """Return columns and rows by title: one table per k, and one with a cluster per class."""
    tables: dict[str, Table] = {}
    for k in ks:
        rows = [
            [name, *(of_k[k][column] for column in MAJORITY), seconds[name]]
            for name, of_k in found.items()
        ]
        tables[f"k = {k}, each cluster its majority class"] = ["", *MAJORITY, "CPU s"], rows
    rows = [
        [name, *(of_k[k][column] for k, column in ONE_TO_ONE.items())]
        for name, of_k in found.items()
        if not name.startswith("oracle")  # has the six classes for clusters, whatever k
    ]
    tables["accuracy, each class one cluster"] = ["", *ONE_TO_ONE.values()], rows
    return tables


def about(stores: Sequence[Path], patches: Sequence[Patch]) -> str:
    """Describe in one line what the tables were computed from."""
    parts = []
    for split in ("train", "val"):
        n = [len(patch.masks) for patch in patches if patch.split == split]
        parts.append(f"{len(n)} {split} patches with {sum(n)} masks")
    stages = [LabelStore(store).info.stages["masks"]["identity"] for store in stores]
    grids = sorted({str(identity.get("points_per_side", "no")) for identity in stages})
    return f"{' and '.join(parts)}; points per side: {', '.join(grids)}"


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--masks", type=Path, nargs="+", required=True, help="label stores")
    parser.add_argument("--k", type=int, nargs="+", default=[6, 16, 46, 128], help="clusters")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="folder for the features, minutes each")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown, too")
    args = parser.parse_args()
    one_thread()
    patches = load_patches(args.masks, args.data / "potsdam224")
    found: Found = {}
    seconds: dict[str, str] = {}
    with threadpool_limits(1):
        for name, method in methods(patches, args.keep):
            seconds[name] = "" if method.seconds is None else f"{method.seconds:.2f}"
            found[name] = {}
            for k in tqdm(sorted({*ONE_TO_ONE, *args.k}), name, unit="k", delay=1):
                runs = [score(**count(method, k, seed)) for seed in args.seeds]
                found[name][k] = {c: spread([run[c] for run in runs]) for c in runs[0]}
    tables = tabulate(found, seconds, args.k)
    line = about(args.masks, patches)
    report(((title, *table) for title, table in tables.items()), args.markdown, line)


if __name__ == "__main__":
    main()
