"""Label 100,000 images with a fake SAM: memory, time, files, and the cost of a kill half-way.

python -m benchmarks.scale STORE [--images 100000] [--picture benchmarks/scale.svg]

The real pipeline, store, k-means, index maps and report with masks that cost almost nothing, in a
separate process that is monitored from outside. It is killed (SIGKILL) when half of the masks
exist, and restarted. Prints a table, and draws memory and progress over time.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.measure import console, show
from benchmarks.process import ROOT

SECONDS = 2.0  # between two looks
#: What a shard leaves when its masks, and when its labels are done.
DONE = ("masks", "labels")


@dataclass(frozen=True, slots=True)
class Look:
    """One observation of the process."""

    seconds: float  # since the first start
    masks: int  # shards done
    labels: int
    memory: float  # resident, MiB; 0 between two processes


def resident(pid: int) -> float:
    """Return the memory of a process in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def watch(store: Path, images: int, start: float, stop_at: int | None) -> Iterator[Look]:
    """Label and observe; kill the process when the masks of ``stop_at`` shards exist."""
    command = [sys.executable, "-m", "benchmarks.growth", str(store), "--drawn", str(images)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        while child.poll() is None:
            done = [sum(1 for _ in (store / stage).glob("*.parquet")) for stage in DONE]
            yield Look(time.perf_counter() - start, *done, resident(child.pid))
            if stop_at is not None and done[0] >= stop_at:
                child.kill()
            time.sleep(SECONDS)
    if child.returncode and stop_at is None:
        raise subprocess.CalledProcessError(child.returncode, command)


def speed(looks: Sequence[Look], stage: str, per_shard: float) -> list[float]:
    """Return the seconds per 1,000 images of a stage, for each quarter of its observed shards."""
    seconds = np.array([look.seconds for look in looks])
    done = np.array([getattr(look, stage) for look in looks], float)
    moving = np.flatnonzero(np.diff(done)) + 1
    marks = np.linspace(done[moving[0]], done[moving[-1]], 5)
    times = np.interp(marks, done[moving], seconds[moving])
    return [1000 * (b - a) / (per_shard * (marks[1] - marks[0])) for a, b in pairwise(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="a new folder; removed first")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    shutil.rmtree(args.store, ignore_errors=True)
    shards = -(-args.images // min(64, -(-args.images // 64)))

    start = time.perf_counter()
    first = list(watch(args.store, args.images, start, shards // 2))
    killed = time.perf_counter() - start
    kept = sum(1 for _ in (args.store / "masks").glob("*.parquet"))
    second = list(watch(args.store, args.images, start, None))
    again = next(look.seconds for look in second if look.masks > kept) - killed

    looks = [*first, *second]
    files = [path for path in args.store.rglob("*") if path.is_file()]
    sizes = {
        folder: sum(f.stat().st_size for f in files if folder in f.relative_to(args.store).parts)
        for folder in ("masks", "features", "labels", "ann")
    }
    rows = []
    for name, part, stage in (
        ("masks and features, before the kill", first, "masks"),
        ("masks and features, after it", second, "masks"),
        ("labels", second, "labels"),
    ):
        own = [look for look in part if look.memory and (stage == "labels") == (look.labels > 0)]
        taken = speed(own, stage, args.images / shards)
        memory = [look.memory for look in own]
        quarters = [max(q) for q in np.array_split(memory, 4)]
        rows.append(
            [
                name,
                " ".join(f"{s:.1f}" for s in taken),
                " ".join(f"{m:.0f}" for m in quarters),
            ]
        )
    title = (
        f"{args.images:,} images in {looks[-1].seconds:.0f} s, {shards:,} shards, "
        f"{len(files):,} files; killed after {killed:.0f} s with {kept} shards done, the first "
        f"new shard {again:.0f} s after the restart"
    )
    columns = ["", "s per 1,000 images, by quarter", "most memory, MiB, by quarter"]
    show(title, columns, rows)
    for folder, size in sizes.items():
        console.print(f"{folder}: {size / args.images:.0f} bytes an image")
    if args.picture:
        draw(looks, killed, shards, args.images, args.picture)


def draw(looks: Sequence[Look], killed: float, shards: int, images: int, path: Path) -> None:
    """Draw memory above and progress below."""
    figure = Figure((8, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [look.seconds / 60 for look in looks]
    above.plot(minutes, [look.memory for look in looks], color="#0f766e")
    above.set(ylabel="resident memory, MiB", ylim=(0, None))
    for stage, color in (("masks", "#2f6fd0"), ("labels", "#e08a2e")):
        done = [getattr(look, stage) * images / shards for look in looks]
        below.plot(minutes, done, color=color, label=stage)
    below.set(xlabel="minutes", ylabel="images done", ylim=(0, None))
    below.legend(frameon=False)
    for axes in (above, below):
        axes.axvline(killed / 60, color="#9198a1", linestyle="--", linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
    above.text(
        killed / 60, above.get_ylim()[1], " killed, started again", va="top", color="#59636e"
    )
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
