"""Masks of the device against those of the CPU and of segment_anything, one to one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
from segment_anything.utils.amg import build_point_grid

from alps.masks.auto import SAM_SETTINGS, AutoMasks
from alps.sam.segmenter import SamSegmenter
from alps.structures.masks import Masks
from alps.structures.records import Sample
from benchmarks.agreement import Agreement, run_lengths
from benchmarks.gpu.findings import Check, Finding, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.measure import stock_generator

MATCH = 0.9  # IoU of two masks of one object
#: Share of the masks that may differ: rounding moves a mask across a threshold now and then.
FLOAT32, BFLOAT16 = 0.02, 0.15


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Compare each way of making masks with float32 on the CPU."""
    side, n = (4, 1) if inputs.small else (16, 3)
    settings = {"points_per_side": side, **SAM_SETTINGS}
    exact = SamSegmenter("mobile", device=inputs.device)
    rounded = SamSegmenter("mobile", device=inputs.device, dtype="bfloat16")
    stock = stock_generator(exact.model, build_point_grid(side), 4 if inputs.small else 64)
    on_cpu = AutoMasks(
        segmenter=SamSegmenter("mobile", device="cpu"), threads=os.cpu_count() or 1, **settings
    )

    def ours(segmenter: SamSegmenter, fast: bool) -> Callable[[Sample], list[bytes]]:
        source = AutoMasks(segmenter=segmenter, fast=fast, **settings)
        return lambda sample: list(source(sample).counts)

    ways: dict[str, tuple[Callable[[Sample], list[bytes]], float]] = {
        "segment_anything": (lambda s: run_lengths(stock.generate(s.image)), FLOAT32),
        "float32": (ours(exact, False), FLOAT32),
        "logits in bfloat16": (ours(exact, True), BFLOAT16),
        "encoder in bfloat16": (ours(rounded, False), BFLOAT16),
    }
    found: dict[str, list[Agreement]] = {name: [] for name in ways}
    for i, image in enumerate(inputs.images(n)):
        sample = Sample(str(i), image)
        expected: Masks = on_cpu(sample)
        for name, (find, _) in ways.items():
            found[name].append(Agreement.of(find(sample), expected))
    yield Table(
        f"Masks on {inputs.device} against float32 on the CPU, {n} images, {side} x {side} points",
        ["", "on the CPU", "here", f"matched, IoU >= {MATCH}", "IoU: mean", "least"],
        [[name, *_row(agreements)] for name, agreements in found.items()],
    )
    for name, (_, share) in ways.items():
        ours_, theirs, matched = _counts(found[name])
        allowed = max(1, round(share * ours_)) if not inputs.on_cpu or share > FLOAT32 else 0
        yield Check(
            f"{name}: {matched} of {ours_} and of {theirs} masks match, {allowed} need not",
            max(ours_, theirs) - matched <= allowed,
        )


def _counts(agreements: list[Agreement]) -> tuple[int, int, int]:
    """Return the number of masks on the CPU, on the device, and of pairs that match."""
    return (
        sum(a.ours for a in agreements),
        sum(a.stock for a in agreements),
        sum(iou >= MATCH for a in agreements for iou in a.ious),
    )


def _row(agreements: list[Agreement]) -> list[object]:
    ious = [iou for a in agreements for iou in a.ious] or [1.0]
    return [*_counts(agreements), f"{np.mean(ious):.5f}", f"{min(ious):.4f}"]
