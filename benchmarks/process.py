"""Run a program in a separate process and measure its CPU seconds and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Between two looks at the memory of a process; what it takes in its last moment is not seen.
SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """The cost of one run of a program."""

    cpu: float  # seconds of all threads, user's and system's
    peak: float  # resident memory, MiB
    output: str


def run(*arguments: str | Path, folder: Path = ROOT) -> Run:
    """Run Python with these arguments in a checkout, on one thread and without a GPU.

    Raises:
        CalledProcessError: the program failed; its error output was passed to standard error.
    """
    command = [sys.executable, *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    peak = 0.0
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as child:
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            peak = max(peak, peak_memory(child.pid))
            time.sleep(SECONDS)
        child.returncode = os.waitstatus_to_exitcode(ended[1])
        output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command, output)
    return Run(ended[2].ru_utime + ended[2].ru_stime, peak, output)


def peak_memory(pid: int | str = "self") -> float:
    """Return the peak resident memory of a process so far, in MiB; 0 if it has ended.

    ``ru_maxrss`` cannot be used: a child inherits its parent's value.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
