"""Compare the whole of label.py with the original's pipeline: same images, weights and grid.

python -m benchmarks.pipeline [--images 6] [--rounds 3] [--markdown FILE]
python -m benchmarks.pipeline --growth 10 100 600 --drawn 100 1000 10000

Measures processes from start to end, including imports and loading, with one thread each. All also
run on the first image alone, to separate the cost per image from the start-up. label.py syncs all
files to disk, counts them and writes a report; `benchmarks.original` only writes index maps.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from alps.store.counts import count
from alps.store.label_store import LabelStore
from benchmarks.growth import Table, grow, tabulate
from benchmarks.measure import Spread, arguments, console, ratio, report
from benchmarks.original import SIDE
from benchmarks.process import Run, run

BATCHES = (64, 1)  # of the original's points: segment_anything's default, and its fastest
#: The original's masks without its gate, as `benchmarks.original` makes them.
SAME = ("recipe=alps_paper", "masks.max_area=1")
#: Two with the masks and the features of the original, and two as label.py comes.
OURS = {
    "ours, exact": SAME,
    "ours, screened": (*SAME, "masks.screen=true"),
    "ours, default recipe": (),
    "ours, default recipe, screened": ("masks=screened",),
}


def clusters(n: int) -> int:
    """Return the paper's 46, or as many clusters as few images allow."""
    return min(46, 4 * n)


def copy_patches(data: Path, n: int, folder: Path) -> Path:
    """Copy the first ``n`` patches of Potsdam in a fixed random order."""
    found = sorted((data / "potsdam224/img_dir").glob("*/*.png"))
    if len(found) < n:
        raise SystemExit(f"{data}/potsdam224/img_dir holds {len(found)} patches, expected {n}")
    folder.mkdir(parents=True)
    for i in np.random.default_rng(0).permutation(len(found))[:n]:
        shutil.copy(found[i], folder / f"{found[i].parent.name}_{found[i].name}")
    return folder


def run_original(batch: int, images: Path, n: int, out: Path) -> tuple[Run, int]:
    """Run the original on ``n`` images and return its number of masks."""
    options = ("--batch", str(batch), "--k", str(clusters(n)))
    done = run("-m", "benchmarks.original", images, out, *options)
    return done, int(done.output)


def run_ours(settings: Sequence[str], images: Path, n: int, out: Path) -> tuple[Run, int]:
    """Run label.py on ``n`` images and return its number of masks."""
    done = run(
        "label.py",
        *("+dataset=folder", f"dataset.root={images}", "dataset.name=patches", f"store={out}"),
        *(f"masks.points_per_side={SIDE}", "engine.threads=1", f"assign.k={clusters(n)}"),
        *settings,
    )
    return done, count(LabelStore(out)).masks


PEERS: dict[str, Callable[[Path, int, Path], tuple[Run, int]]] = {
    **{name: partial(run_ours, settings) for name, settings in OURS.items()},
    **{f"original, batch {batch}": partial(run_original, batch) for batch in BATCHES},
}


def race(data: Path, n: int, rounds: int, folder: Path) -> dict[str, Table]:
    """Run all peers in turn on one image and on ``n``; return columns and rows by title."""
    names = list(PEERS)
    folders = {few: copy_patches(data, few, folder / f"images_{few}") for few in (1, n)}
    cpu: dict[tuple[str, int], list[float]] = {(name, few): [] for name in names for few in folders}
    peaks: dict[str, float] = {}
    masks: dict[str, int] = {}
    for start in range(rounds):
        for name in names[start % len(names) :] + names[: start % len(names)]:
            for few, images in folders.items():
                out = folder / f"{start}_{few}_{names.index(name)}"
                done, masks[name] = PEERS[name](images, few, out)
                console.print(f"{name}: {few} images, {done.cpu:.1f} CPU s, {done.peak:.0f} MiB")
                cpu[name, few].append(done.cpu)
            peaks[name] = max(done.peak, peaks.get(name, 0.0))
    whole = {name: cpu[name, n] for name in names}
    further = {name: list((np.array(cpu[name, n]) - cpu[name, 1]) / (n - 1)) for name in names}
    columns = ["", "CPU s", *(f"x batch {batch}" for batch in BATCHES)]

    def compare(seconds: dict[str, list[float]]) -> list[list[str]]:
        stock = [seconds[f"original, batch {batch}"] for batch in BATCHES]
        return [
            [name, str(Spread.of(own)), *(str(ratio(theirs, own)) for theirs in stock)]
            for name, own in seconds.items()
        ]

    rows = [[*row, str(masks[row[0]]), f"{peaks[row[0]]:.0f}"] for row in compare(whole)]
    return {
        f"{n} images, whole processes": ([*columns, "masks", "peak MiB"], rows),
        "each further image": (columns, compare(further)),
    }


def growth(
    data: Path, numbers: Sequence[int], drawn: Sequence[int], folder: Path
) -> dict[str, Table]:
    """Run ALPS on several numbers of images; return columns and rows by title."""
    tables = {}
    if numbers:
        runs = [
            grow(
                *(
                    folder / f"store_{n}",
                    f"masks.points_per_side={SIDE}",
                    f"assign.k={clusters(n)}",
                ),
                *("--images", copy_patches(data, n, folder / f"images_{n}")),
            )
            for n in numbers
        ]
        tables |= {f"default recipe: {title}": table for title, table in tabulate(runs).items()}
    if drawn:
        runs = [grow(folder / f"drawn_{n}", "--drawn", str(n)) for n in drawn]
        tables |= {f"fake SAM: {title}": table for title, table in tabulate(runs).items()}
    return tables


def main() -> None:
    parser = arguments(str(__doc__))
    parser.add_argument("--images", type=int, default=6, help="patches, 2 or more; 0: no race")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", type=int, nargs="+", default=[], help="patches of Potsdam")
    parser.add_argument("--drawn", type=int, nargs="+", default=[], help="images for a fake SAM")
    parser.add_argument("--markdown", type=Path, help="write the tables as Markdown, too")
    args = parser.parse_args()
    if args.images == 1:
        parser.error("--images 1: what a further image costs takes 2 images or more")
    data = args.data.resolve()
    tables: dict[str, Table] = {}
    with tempfile.TemporaryDirectory() as name:
        if args.images:
            tables |= race(data, args.images, args.rounds, Path(name, "race"))
        tables |= growth(data, args.growth, args.drawn, Path(name, "growth"))
    report(((title, *table) for title, table in tables.items()), args.markdown)


if __name__ == "__main__":
    main()
