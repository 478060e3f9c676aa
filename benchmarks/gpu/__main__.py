"""Check ALPS on a GPU in eight minutes, with the sample images and without network.

make gpu-check
python -m benchmarks.gpu [--device auto|cpu] [--only PART ...] [--out FILE]

The first command also copies weights and images to build/gpu-check (`benchmarks.gpu.carried`), from
where the second reads them; on a machine without network, carry that folder along and run the
second. The parts are environment, masks, speed, launches, memory, bytes, training, experiments, ddp
and kmeans. Each runs in a process of its own, has a time limit and ends with PASS, FAIL or NOT
APPLICABLE and a reason. The exit status is 1 after a FAIL. The tables are printed and, of a
complete run on a GPU, written to benchmarks/gpu.md. On a CPU the same parts run in small, and their
figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu.carried import FOLDER, use
from benchmarks.gpu.environment import machine
from benchmarks.gpu.findings import Outcome, Status
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.isolated import preload, run_part
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.report import line, part_report, report

PAGE = Path("benchmarks/gpu.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--out", type=Path, help="page for the tables")
    args = parser.parse_args(arguments)
    device = "cuda" if args.device == "auto" and torch.cuda.is_available() else "cpu"
    if device == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for a busy core cost time
    sample = use(FOLDER)
    preload(PARTS[name] for name in args.only)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.only:
            folder = Path(temporary, name)
            folder.mkdir()
            inputs = Inputs(device, sample, folder, small=device == "cpu")
            outcomes[name] = run_part(PARTS[name], inputs)
            print(part_report(name, outcomes[name]), flush=True)
    print("\n".join(line(name, outcome) for name, outcome in outcomes.items()))
    complete = device == "cuda" and len(outcomes) == len(PARTS)
    if page := args.out or (PAGE if complete else None):
        page.write_text(report(machine(device), outcomes))
    return int(any(outcome.status == Status.FAIL for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
