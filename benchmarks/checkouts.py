"""Compare labelling of drawn images by this checkout and another one: CPU seconds, interleaved.

python -m benchmarks.checkouts OTHER [--images 1000] [--rounds 5]

OTHER is the root of another checkout, such as a git worktree of an earlier commit. Each round
labels the same images with a fake SAM (benchmarks.growth of each checkout) in two single-threaded
processes, which take turns to be first. Prints the seconds, their ratio, and the number of files in
which the last two stores differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import trange

from benchmarks.measure import Spread, console, ratio, show
from benchmarks.process import ROOT, run


def label(checkout: Path, store: Path, images: int) -> float:
    """Return the CPU seconds of a process that labels."""
    program = ("-m", "benchmarks.growth", store, "--drawn", str(images))
    return run(*program, folder=checkout).cpu


def differing(one: Path, other: Path) -> list[str]:
    """Return the names of files that only one store has or whose bytes differ."""
    names = {str(p.relative_to(s)) for s in (one, other) for p in s.rglob("*") if p.is_file()}
    both = ([s / name for s in (one, other)] for name in sorted(names))
    return [
        str(a.relative_to(one))
        for a, b in both
        if not (a.exists() and b.exists() and a.read_bytes() == b.read_bytes())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="root of another checkout")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    checkouts = {"other": args.other.resolve(), "this": ROOT}
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    for i in trange(args.rounds, unit="round"):
        with TemporaryDirectory() as folder:
            stores = {name: Path(folder, name) for name in checkouts}
            for name in sorted(checkouts, reverse=bool(i % 2)):
                seconds[name].append(label(checkouts[name], stores[name], args.images))
            different = differing(stores["other"], stores["this"])
    rows = [[f"{name}: {checkouts[name]}", Spread.of(seconds[name])] for name in checkouts]
    rows.append(["this / other, round by round", ratio(seconds["this"], seconds["other"])])
    show(f"{args.images} drawn images, {args.rounds} rounds", ["", "CPU s (from-to)"], rows)
    named = f": {', '.join(different[:8])}" if different else ""
    console.print(f"{len(different)} files of the stores differ{named}", soft_wrap=True)


if __name__ == "__main__":
    main()
