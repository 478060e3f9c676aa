"""A run of train.py in a process of its own, whose result is kept."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import console

TRAIN = Path(__file__).parents[1] / "train.py"


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one run: scores of its last weights by name, and its CPU seconds."""

    scores: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run of train.py with one thread, whose result is kept.

    Args:
        folder: folder of this run; holds its files and its result.
        init: ``imagenet``, the checkpoint to start from, or ``null`` for random weights.
        overrides: the other arguments of the command, to which a kept result belongs.
    """

    folder: Path
    init: str
    overrides: tuple[str, ...]

    def __call__(self) -> Result:
        """Return the kept result, or run from the beginning; an interrupted run is discarded.

        Raises:
            RuntimeError: the folder holds the result of another run, or the run failed.
        """
        kept = self.folder / "result.json"
        if kept.is_file():
            record = json.loads(kept.read_text())
            if other := set(record["overrides"]) ^ set(self.overrides):
                raise RuntimeError(
                    f"{kept} is of another run, which differs in {', '.join(sorted(other))}; "
                    "give another folder as --keep"
                )
            return Result(record["scores"], record["seconds"])
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        seconds = self._train()
        result = Result(seconds=seconds, scores=self._scores())
        record = {"overrides": self.overrides, "seconds": seconds, "scores": result.scores}
        kept.write_text(json.dumps(record, indent=1))
        line = f"{self.folder}: mIoU {result.scores['mIoU']:.4f}, {result.seconds:.0f} CPU s"
        console.print(line, highlight=False, soft_wrap=True)
        return result

    def _train(self) -> float:
        """Run train.py and return its CPU seconds."""
        command = [
            *(sys.executable, str(TRAIN), *self.overrides),
            *(f"run={self.folder}", f"init={self.init}"),
        ]
        log = self.folder / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            _, status, usage = os.wait4(process.pid, 0)  # `wait` does not return the CPU time
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
            if name.startswith("val/") and value
        }


def schedule(steps: int) -> tuple[str, str]:
    """Return the overrides for a number of steps with one validation at the end."""
    return f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps}"
