"""Data-parallel training against one process, and batch norms that are synchronised.

python -m benchmarks.gpu.processes N FOLDER DEVICE

trains on N processes and writes the losses to FOLDER; Lightning starts the other processes by
running it again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch

from alps.training.sync_norm import SyncBatchNorm
from benchmarks.gpu.environment import ROOT
from benchmarks.gpu.findings import Check, Finding, Skipped, Table
from benchmarks.gpu.inputs import Inputs
from tests.training.tiny_runs import ColoredBlocks, Losses, tiny_data, tiny_task, tiny_trainer

#: Encoders whose batch norms contain an activation or not, or that have none.
ENCODERS = (
    "resnet18",
    "tf_efficientnet_lite0",
    "regnety_002",
    "mobilenetv3_small_050",
    "densenet121",
)
BATCH, STEPS = 8, 6


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Train on all GPUs, or on two processes of a CPU; then convert batch norms."""
    n = 2 if inputs.on_cpu else largest_power_of_two(torch.cuda.device_count())
    losses = {processes: train(processes, inputs) for processes in sorted({1, n})}
    rows = [[count, *(f"{loss:.5f}" for loss in values)] for count, values in losses.items()]
    columns = ["processes", *(f"step {i + 1}" for i in range(STEPS))]
    yield Table("Losses of equal batches", columns, rows)
    finite = all(np.isfinite(values).all() for values in losses.values())
    yield Check(f"the losses of {STEPS} steps are finite", finite)
    if n == 1:
        yield Skipped("several processes: there is one GPU")
    else:
        tolerance = 1e-4 if inputs.on_cpu else 1e-2
        same = np.allclose(losses[1], losses[n], rtol=tolerance)
        yield Check(f"{n} processes have the losses of one, within {tolerance}", same)
    encoders = ENCODERS[:2] if inputs.small else ENCODERS
    changes = {name: change(name, inputs.device) for name in encoders}
    yield Table(
        "Change of the logits by the conversion to SyncBN",
        ["", "relative"],
        [[name, f"{value:.1e}"] for name, value in changes.items()],
    )
    for name, value in changes.items():
        yield Check(f"SyncBN changes {name} by {value:.1e}, at most 1e-5", value <= 1e-5)


def largest_power_of_two(n: int) -> int:
    """Return the largest number of processes, at most ``n``, by which the batch is divisible."""
    return 1 << (min(n, BATCH).bit_length() - 1)


@torch.inference_mode()
def change(encoder: str, device: str) -> float:
    """Return the largest change of the logits by the conversion, relative to the largest logit."""
    torch.manual_seed(0)
    net = timm.create_model(encoder).eval().to(device)
    image = torch.randn(2, 3, 64, 64, device=device)
    before = net(image)
    after = SyncBatchNorm().apply(net)(image)
    return float((after - before).abs().max() / before.abs().max())


def train(processes: int, inputs: Inputs) -> list[float]:
    """Run this program and return the losses.

    Raises:
        RuntimeError: it failed; the message is the end of its error output.
    """
    folder = inputs.folder / str(processes)
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.gpu.processes", str(processes), str(folder)]
    done = subprocess.run(
        [*command, inputs.device], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{processes} processes failed: {done.stderr[-1000:]}")
    losses: list[float] = json.loads((folder / "losses.json").read_text())
    return losses


def main(processes: int, folder: Path, device: str) -> None:
    """Train a tiny network, with batch norms on GPUs; they have no synchronised form on a CPU."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    on_cpu = device == "cpu"
    images = ColoredBlocks(n=13, val=5)
    task = tiny_task(images, encoder="test_convnext" if on_cpu else "test_resnet", dropout=0.0)
    losses = Losses()
    trainer = tiny_trainer(
        folder,
        steps=STEPS,
        callbacks=[losses],
        accelerator="cpu" if on_cpu else "gpu",
        devices=processes,
        strategy="ddp",
        plugins=None if on_cpu else [SyncBatchNorm()],
    )
    trainer.fit(task, datamodule=tiny_data(images, batch_size=BATCH // processes))
    if trainer.is_global_zero:
        (folder / "losses.json").write_text(json.dumps(losses.values))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
