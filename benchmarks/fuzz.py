"""Feed damaged files to the readers and check for crashes, hangs and memory exhaustion.

python -m benchmarks.fuzz [--files 2400] [--seed 0] [--processes 2]

Every file must result in a sample or in a single `AlpsError` of one line. Files are made and read
in child processes, which are monitored: a crash, a hang or full memory affects one file, which is
counted as lost. Exits with status 1 if a file was lost, and prints how to reproduce it.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.process import ROOT, peak_memory

#: A file that takes longer hangs.
SECONDS = 30
#: Address space of a child, so that a file that fills it costs the file alone.
MEMORY = 12 << 30
#: Resident memory that one file may take.
GROWTH = 512  # MiB


@dataclass(slots=True)
class Tally:
    """Results for the files of one format."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    growth: float = 0.0  # MiB
    lost: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--child", nargs="*", help="FORMAT:NUMBER…, read here, one line each")
    arguments = parser.parse_args()
    if arguments.child is not None:
        _read_here(arguments.child)
        return
    start = time.perf_counter()
    tallies = fuzz(arguments.files, arguments.seed, arguments.processes)
    for line in table(tallies):
        print(line)
    lost = [line for tally in tallies.values() for line in tally.lost]
    for line in lost:
        print(line)
    n = sum(tally.outcomes.total() for tally in tallies.values())
    print(f"tried {n}, lost {len(lost)}, in {time.perf_counter() - start:.0f} s")
    sys.exit(bool(lost))


def fuzz(files: int, seed: int, processes: int) -> dict[str, Tally]:
    """Read ``files`` mutants, equally many of each format."""
    from tests.mutants import FORMATS

    names = [*FORMATS]
    jobs = [f"{names[i % len(names)]}:{seed * 1_000_000 + i}" for i in range(files)]
    tallies = {name: Tally() for name in names}
    lock = threading.Lock()

    def work(part: Sequence[str]) -> None:
        for job, outcome in read(part):
            with lock:
                _count(tallies[job.rpartition(":")[0]], job, outcome)

    with ThreadPoolExecutor(processes) as pool:
        for done in [pool.submit(work, jobs[i::processes]) for i in range(processes)]:
            done.result()
    return tallies


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    """Return one row per format, as Markdown."""
    yield "| format | files | read | refused in a line | lost | slowest, s | memory, MiB |"
    yield "|---|---|---|---|---|---|---|"
    for name, tally in tallies.items():
        counts = tally.outcomes
        yield (
            f"| {name} | {counts.total()} | {counts['read']} | {counts['refused']} | "
            f"{len(tally.lost)} | {tally.slowest:.1f} | {tally.growth:.0f} |"
        )


def read(jobs: Sequence[str]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the result of each job, from a child process that is replaced if it is lost."""
    done = 0
    while done < len(jobs):
        command = [sys.executable, "-m", "benchmarks.fuzz", "--child", *jobs[done : done + 400]]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stdout
            last = done + min(400, len(jobs) - done)
            while done < last:
                watch = threading.Timer(SECONDS, child.kill)
                watch.start()
                line = child.stdout.readline()
                while line and not line.startswith("{"):  # a library that prints
                    line = child.stdout.readline()
                hung = not watch.is_alive()
                watch.cancel()
                if not line:
                    child.kill()
                    why = f"hung for {SECONDS} s" if hung else f"the process died: {child.wait()}"
                    yield jobs[done], {"kind": "lost", "why": why}
                    done += 1
                    break
                yield jobs[done], json.loads(line)
                done += 1


def _count(tally: Tally, job: str, outcome: dict[str, object]) -> None:
    tally.outcomes[str(outcome["kind"])] += 1
    tally.slowest = max(tally.slowest, float(str(outcome.get("seconds", 0))))
    tally.growth = max(tally.growth, float(str(outcome.get("growth", 0))))
    if outcome["kind"] == "lost":
        tally.lost.append(f"lost: --child '{job}': {outcome['why']}")


def _read_here(jobs: Sequence[str]) -> None:
    """Read mutants in this process and print one line of JSON for each."""
    from alps.errors import AlpsError
    from tests.mutants import FORMATS, Mutants

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        mutants = Mutants(Path(folder))
        for job in jobs:
            name, _, number = job.rpartition(":")
            root = mutants.make(name, int(number))
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
            before, start = peak_memory(), time.perf_counter()
            outcome: dict[str, object] = {"kind": "read"}
            try:
                FORMATS[name].read(root)
            except AlpsError as error:
                outcome = {"kind": "refused"}
                if "\n" in str(error) or len(str(error)) > 1000:
                    outcome = {"kind": "lost", "why": f"{len(str(error))} letters: {error!s:.80}"}
            except BaseException as error:  # whatever it is, it is what is looked for
                outcome = {"kind": "lost", "why": f"{type(error).__name__}: {error!s:.200}"}
            outcome["seconds"] = round(time.perf_counter() - start, 2)
            outcome["growth"] = round(peak_memory() - before)
            if float(str(outcome["growth"])) > GROWTH:
                outcome |= {"kind": "lost", "why": f"took {outcome['growth']} MiB"}
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
