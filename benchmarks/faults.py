"""Inject faults while labelling and check that nothing is lost.

python -m benchmarks.faults [--only worker driver …] [--seed 0]

label.py labels drawn images with a fake SAM, is disturbed at random moments (from the seed), and is
restarted until it finishes. A trial counts as lost if a byte of the store differs from that of an
undisturbed run, a run ends in an unexpected way, a finished shard is computed again, or a traceback
is printed. Exits with status 1 if a trial was lost. Linux only; as root it fills a small file
system, otherwise it limits the file size.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.disturbed import (
    IMAGES,
    Marks,
    Program,
    contents,
    marks,
    obey_modes,
    preload,
    until,
)

MOMENT = 0.8  # seconds after the first new shard, at most
TWO = "engine.processes=2"
KINDS = (
    *("store.json", "config.yaml", "plan.parquet", "categories.json", "report.html"),
    *("manifest.json", "images/00005.parquet", "features/00005.npy", "masks/00005.parquet"),
    *("clusters/centroids.npy", "clusters/counts.npy", "labels/00005.parquet"),
    *("ann/train/0000005.png", "statistics/*.csv", "statistics/*.png"),
)


@dataclass(slots=True)
class Tally:
    """Results of the trials of one fault."""

    tried: int = 0
    runs: int = 0  # of label.py
    stores: int = 0  # compared
    lost: list[str] = field(default_factory=list)
    note: str = ""


class Trials:
    """Stores that are disturbed, one after the other.

    Args:
        folder: folder for the stores.
        expected: content of an undisturbed store by file name.
        seed: seed of the moments.
    """

    def __init__(self, folder: Path, expected: dict[str, bytes], seed: str) -> None:
        self.folder, self.expected, self.rng = folder, expected, random.Random(seed)
        self.tally = Tally()
        self.kept: Marks = {}

    def new(self, place: Path | None = None) -> Path:
        """Return a folder for a store; all have the same name, because reports contain it."""
        self.kept = {}
        path = place or self.folder / str(self.tally.stores)
        path.mkdir(exist_ok=True)
        self.tally.stores += 1
        return path / "store"

    def start(self, store: Path, *words: str, first: Callable[[], object] = int) -> Program:
        """Start or resume labelling."""
        self.kept = marks(store)
        self.tally.runs += 1
        return Program(store, *words, first=first)

    def moment(self, program: Program) -> None:
        """Wait until the run is at work, and then for a random time."""
        if program.at_work():
            time.sleep(self.rng.uniform(0, MOMENT))

    def lose(self, what: str) -> None:
        """Record a failed check."""
        self.tally.lost.append(what)

    def ends(self, program: Program, status: int, *words: str) -> None:
        """Check how a run ended and what it printed."""
        found, output = program.wait(), program.output()
        if found != status:
            self.lose(f"status {found}, expected {status}: {output[-2000:]}")
        elif "Traceback" in output or any(word not in output for word in words):
            self.lose(f"expected {words} and no traceback: {output[-2000:]}")
        now = marks(program.store)
        if again := [name for name, mark in self.kept.items() if now.get(name) != mark]:
            self.lose(f"made again: {again}")

    def finish(self, store: Path) -> None:
        """Resume until the store is finished, and compare it."""
        self.ends(self.start(store), 0)
        self.compare(store)

    def compare(self, store: Path) -> None:
        """Compare the store with an undisturbed one, and delete it."""
        found = contents(store)
        names = sorted(found.keys() | self.expected.keys())
        if other := [n for n in names if found.get(n) != self.expected.get(n)]:
            self.lose(f"other bytes: {other}")
        shutil.rmtree(store, ignore_errors=True)  # a run that failed may have begun none


def kill_workers(trials: Trials, n: int) -> Iterator[None]:
    """Kill (SIGKILL) one worker, then the last one; the next run starts two new ones."""
    store = trials.new()
    while trials.tally.tried < n:
        program = trials.start(store, TWO)
        trials.moment(program)
        for _ in range(2):
            if (workers := program.workers()) and not program.ended():
                with suppress(ProcessLookupError):  # the run ends in this moment
                    os.kill(trials.rng.choice(workers), signal.SIGKILL)
                    trials.tally.tried += 1
                yield
                time.sleep(trials.rng.uniform(0, MOMENT))
        if program.wait() == 1:
            # "no worker is left", or both were killed at one shard, which is then suspected.
            trials.ends(program, 1, "error: ", "repeat the command to resume; finished shards are")
        else:
            trials.ends(program, 0)
            trials.compare(store)
            store = trials.new()
    trials.finish(store)


def kill_driver(trials: Trials, n: int) -> Iterator[None]:
    """Kill the main process; its workers must end as well."""
    store = trials.new()
    while trials.tally.tried < n:
        program = trials.start(store, TWO)
        trials.moment(program)
        workers = program.workers()
        if program.kill():
            from alps.store.processes import is_alive

            trials.ends(program, -signal.SIGKILL)
            if not until(lambda workers=workers: not any(map(is_alive, workers))):
                trials.lose(f"workers that live on: {workers}")
            trials.tally.tried += 1
            yield
        else:
            trials.ends(program, 0)
            trials.compare(store)
            store = trials.new()
    trials.finish(store)


def kill_both(trials: Trials, n: int) -> Iterator[None]:
    """Kill two runs on one store."""
    while trials.tally.tried < n:
        store = trials.new()
        programs = [trials.start(store) for _ in range(2)]
        trials.moment(programs[0])
        killed = [program.kill() for program in programs]
        for program in programs:
            program.wait()
        trials.tally.tried += all(killed)
        trials.finish(store)
        yield


def two_drivers(trials: Trials, n: int) -> Iterator[None]:
    """Start two runs on one store without disturbing them."""
    for _ in range(n):
        store = trials.new()
        one = trials.start(store)
        time.sleep(trials.rng.uniform(0, MOMENT))
        two = trials.start(store)
        trials.kept = {}  # a shard that both did is no loss
        trials.ends(one, 0)
        trials.ends(two, 0)
        trials.compare(store)
        trials.tally.tried += 1
        yield


def interrupt(trials: Trials, n: int, *, number: int, word: str) -> Iterator[None]:
    """Send a signal that requests a run to end; every third run has workers."""
    while trials.tally.tried < n:
        store = trials.new()
        program = trials.start(store, *([TWO] if trials.tally.tried % 3 == 2 else []))
        trials.moment(program)
        if program.kill(number):
            trials.ends(program, 128 + number, f"{word}: finished shards are kept; repeat")
            if (store / ".claims").exists():
                trials.lose("claims are left")
            trials.tally.tried += 1
            yield
        trials.finish(store)


def fill_disk(trials: Trials, n: int) -> Iterator[None]:
    """Run out of space: a small tmpfs, or a limit on the file size."""
    place = trials.folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    trials.tally.note = "tmpfs" if mounted else "RLIMIT_FSIZE"
    try:
        for _ in range(n):
            store = trials.new(place)
            kilobytes = trials.rng.randrange(300, 900)
            if mounted:
                _resize(place, f"{kilobytes}k")
                program = trials.start(store)
                trials.ends(program, 1, "No space left on device", "finished shards are kept")
                _resize(place, "64m")
            else:
                most = kilobytes * 4  # bytes; a features file is larger
                limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
                trials.ends(trials.start(store, first=limit), 1, "File too large")
            trials.tally.tried += 1
            trials.finish(store)
            yield
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def _resize(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def lose_permission(trials: Trials, n: int) -> Iterator[None]:
    """Remove write permission from a folder of the store."""
    trials.tally.note = "chmod"
    for i in range(n):
        store = trials.new()
        program = trials.start(store, first=obey_modes)
        trials.moment(program)
        folder = store / ("masks", ".tmp", "features", "images")[i % 4]
        if not program.ended() and len(marks(store)) < IMAGES - 2:  # its last shard may be at work
            folder.chmod(0o555)
            trials.ends(program, 1, "Permission denied", "finished shards are kept")
            folder.chmod(0o755)
            trials.tally.tried += 1
        trials.finish(store)
        yield


def damage(trials: Trials, n: int, *, how: str) -> Iterator[None]:
    """Truncate a file of a finished store or flip one of its bits, then run with verify=true."""
    for kind in KINDS[:n]:
        store = trials.new()
        for name, content in trials.expected.items():
            (store / name).parent.mkdir(parents=True, exist_ok=True)
            (store / name).write_bytes(content)
        path = trials.rng.choice(sorted(store.glob(kind)))
        content = bytearray(path.read_bytes())
        at = trials.rng.randrange(len(content))
        if how == "cut":
            del content[at:]
        else:
            content[at] ^= 1 << trials.rng.randrange(8)
        path.write_bytes(content)
        program = trials.start(store, "verify=true")
        trials.kept = {}
        trials.ends(program, 0)
        trials.compare(store)
        trials.tally.tried += 1
        yield


#: Name → what it is called in the table, how often, and how it is tried.
FAULTS: dict[str, tuple[str, int, Callable[[Trials, int], Iterator[None]]]] = {
    "worker": ("kill -9 of a worker", 50, kill_workers),
    "driver": ("kill -9 of the driver of two workers", 10, kill_driver),
    "both": ("kill -9 of two runs on one store", 5, kill_both),
    "two": ("two runs on one store", 5, two_drivers),
    "sigint": ("SIGINT", 5, partial(interrupt, number=signal.SIGINT, word="interrupted")),
    "sigterm": ("SIGTERM", 5, partial(interrupt, number=signal.SIGTERM, word="terminated")),
    "disk": ("disk full", 5, fill_disk),
    "permission": ("permission lost", 4, lose_permission),
    "cut": ("a file cut short, then verify", len(KINDS), partial(damage, how="cut")),
    "flip": ("a bit flipped, then verify", len(KINDS), partial(damage, how="flip")),
}


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    """Return one row per fault, as Markdown."""
    yield "| fault | tried | lost | runs of label.py | stores compared |"
    yield "|---|---|---|---|---|"
    for name, tally in tallies.items():
        note = f" ({tally.note})" if tally.note else ""
        yield (
            f"| {FAULTS[name][0]}{note} | {tally.tried} | {len(tally.lost)} | {tally.runs} | "
            f"{tally.stores} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=[*FAULTS])
    parser.add_argument("--tries", type=int, help="of each fault, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    preload()
    from tqdm import tqdm

    start = time.perf_counter()
    tallies: dict[str, Tally] = {}
    most = arguments.tries or sys.maxsize
    counts = {name: min(FAULTS[name][1], most) for name in arguments.only}
    stopped = False
    with (
        tempfile.TemporaryDirectory() as temporary,
        tqdm(total=sum(counts.values()), desc="faults") as bar,
    ):
        folder = Path(temporary)
        (folder / "undisturbed").mkdir()
        store = folder / "undisturbed/store"
        program = Program(store)
        if program.wait():
            sys.exit(program.output())
        expected = contents(store)
        try:
            for name, n in counts.items():
                (folder / name).mkdir()
                trials = Trials(folder / name, expected, f"{arguments.seed} {name}")
                tallies[name] = trials.tally
                before = 0
                for _ in FAULTS[name][2](trials, n):
                    bar.update(trials.tally.tried - before)
                    before = trials.tally.tried
        except KeyboardInterrupt:  # what was tried so far is still worth knowing
            stopped = True
        finally:
            for program in Program.started:
                program.kill()
    for line in table(tallies):
        print(line)
    lost = [f"lost: {name}: {line}" for name, tally in tallies.items() for line in tally.lost]
    print("\n".join(lost))
    tried = sum(tally.tried for tally in tallies.values())
    print(f"tried {tried}, lost {len(lost)}, in {time.perf_counter() - start:.0f} s")
    sys.exit(130 if stopped else bool(lost))


if __name__ == "__main__":
    main()
