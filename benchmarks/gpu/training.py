"""Training images per second, by precision, against a bare loop of the same network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alps.training.runs import EXPECTED_WARNINGS
from benchmarks.gpu.findings import Check, Finding, Skipped, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.measure import Spread, ratio
from benchmarks.nets import configuration
from benchmarks.train import Alternate, bare, ours, write_pairs

#: Overrides of a small network, and of the default one.
NETS = (("model=efficientnet_lite0", "head=upernet", "head.channels=128"), ())
#: Share of the speed of the bare loop that our task must reach.
SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings of one row."""

    name: str
    precision: str
    tf32: bool = False
    compiled: bool = False
    clip: str = "null"
    on_gpu: bool = False  # only there


VARIANTS = (
    Variant("float32", "32-true"),
    Variant("TF32", "32-true", tf32=True, on_gpu=True),
    Variant("bfloat16", "bf16-mixed", tf32=True, on_gpu=True),
    Variant("bfloat16, clipped", "bf16-mixed", tf32=True, clip="5.0"),
    Variant("bfloat16, compiled", "bf16-mixed", tf32=True, compiled=True, on_gpu=True),
)


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Alternate steps of our task and of the bare loop, for each variant."""
    logging.getLogger("lightning").setLevel(logging.ERROR)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    images = write_pairs(inputs.folder, inputs.images(1)[0])
    steps, skip = (3, 1) if inputs.small else (25, 8)
    rows, checks = [], []
    for variant in VARIANTS:
        if inputs.on_cpu and variant.on_gpu:
            continue
        torch.set_float32_matmul_precision("high" if variant.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = variant.tf32
        cfg = configuration(
            *NETS[not inputs.small],
            *(inputs.trainer, *sizes(inputs), f"trainer.max_steps={steps + skip}"),
            *(f"trainer.precision={variant.precision}", f"compile={variant.compiled}".lower()),
            *(f"trainer.gradient_clip_val={variant.clip}", "head.dropout=0", "~callbacks.progress"),
        )
        turns = Turns(synchronised(bare(cfg, images)))
        loss = ours(cfg, images, turns)
        mine, theirs = (seconds[skip - 1 :, 0] for seconds in turns.seconds())
        batch = cfg.data.batch_size
        rows.append(
            [variant.name, *map(Spread.of, (batch / theirs, batch / mine)), ratio(theirs, mine)]
        )
        checks.append(
            Check(f"{variant.name}: the loss {loss:.3f} is finite", bool(np.isfinite(loss)))
        )
        speed = float(np.median(theirs) / np.median(mine))
        if not inputs.small:
            statement = (
                f"{variant.name}: {speed:.2f} times as fast as the bare loop, at least {SHARE}"
            )
            checks.append(Check(statement, speed >= SHARE))
    net = "resnet50 + upernet" if not inputs.small else "lite0 + upernet"
    columns = ("", "bare loop, images/s", "our task, images/s", "x the bare loop")
    yield Table(f"{net}, crop {cfg.data.crop}, batch {batch}", columns, rows)
    yield from checks
    if inputs.on_cpu:
        yield Skipped("TF32, which CPUs lack, and compilation, which takes minutes on a CPU")


class Turns(Alternate):
    """Alternates steps that the GPU has finished."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Wait for the GPU, then run a step of the bare loop."""
        synchronise()
        super().on_train_batch_end()


def synchronised(steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """Wait for the GPU after every step."""
    for loss in steps:
        synchronise()
        yield loss


def synchronise() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def sizes(inputs: Inputs) -> tuple[str, ...]:
    """Return the overrides of crop, batch and workers."""
    if inputs.small:
        return ("data.crop=64", "data.batch_size=2", "data.num_workers=0")
    return ("data.crop=512",)
