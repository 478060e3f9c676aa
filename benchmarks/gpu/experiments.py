"""One step and one validation of each protocol of conf/experiment with each of its nets."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra

from alps.cli import train
from benchmarks.gpu.findings import Check, Finding, Table
from benchmarks.gpu.inputs import Inputs
from tests.experiments import AS_ON_A_GPU, NETS, PROTOCOLS, create_data

SETTINGS = (
    *("data.batch_size=3", "data.crop=64", "data.num_workers=0", "init=null", "logger=none"),
    *("trainer.max_steps=1", "trainer.val_check_interval=1", "run=run"),
    *("~callbacks.checkpoint", "~callbacks.last", "~callbacks.pictures"),
)


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Train each pair of protocol and net; on a CPU, each protocol and each net once."""
    place = AS_ON_A_GPU if inputs.on_cpu else ("trainer=gpu",)
    rows = []
    for i, (protocol, (stage, *options)) in enumerate(PROTOCOLS.items()):
        folder = inputs.folder / protocol
        folder.mkdir()
        create_data(protocol, folder)
        for net in (NETS[i % len(NETS)],) if inputs.small else NETS:
            start = perf_counter()
            status, output = run_train(
                folder, stage, f"experiment=[{protocol},{net}]", *place, *options, *SETTINGS
            )
            rows.append([protocol, net, f"{perf_counter() - start:.1f}"])
            found = re.search(r"step 1/1  train/loss (\d+\.\d+)  val/mIoU [01]\.", output)
            last = "" if found else f": status {status}, {' '.join(output.split())[-300:]}"
            yield Check(
                f"{protocol} with {net} trains and validates{last}", bool(found) and not status
            )
    yield Table("One step and one validation, with the model built", ["", "", "s"], rows)


def run_train(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run train.py in this process, in a folder; return its exit status and what it printed."""
    GlobalHydra.instance().clear()
    log = folder / "log.txt"
    status = 0
    with (
        log.open("w") as file,
        redirect_stdout(file),
        redirect_stderr(file),
        chdir(folder),
        patch.object(sys, "argv", ["train.py", *arguments]),
    ):
        try:
            train.start()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, log.read_text()
