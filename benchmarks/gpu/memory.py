"""Memory of the encoder, of prompts, and after many images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from alps.masks.auto import AutoMasks
from alps.sam.segmenter import GPU_IMAGES, SamSegmenter
from alps.structures.records import Sample
from benchmarks.gpu.findings import Check, Finding, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.speed import load
from benchmarks.memory import resident

#: MiB that a GPU may need: per image of an encoder's batch, and per prompt. The memory of tensors
#: (alps.sam.segmenter) and a half more for the workspaces of libraries.
PER_IMAGE = {"mobile": 260, "vit_h": 1900}
PER_PROMPT = 6.6
#: MiB by which memory may grow from the third image to the last: allocators of the CPU keep some.
GROWTH, CPU_GROWTH = 1, 64


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Yield peaks, and the memory after each image."""
    n = 2 if inputs.small else 8
    rows: list[list[object]] = []
    checks = []
    for architecture, most in PER_IMAGE.items():
        if inputs.small and architecture != "mobile":
            continue
        segmenter, _ = load(architecture, inputs.device)
        segmenter.embed(np.zeros((64, 64, 3), np.uint8))  # libraries allocate at the first use
        batch = 1 if inputs.on_cpu else GPU_IMAGES[architecture]
        each = peak(lambda s=segmenter: s.prefetch(inputs.images(n)), inputs) / batch
        title = f"{architecture}, prefetch of {n}: per image of a batch of {batch}"
        rows.append([title, f"{each:.1f}"])
        if not inputs.on_cpu:
            checks.append(
                Check(f"{architecture}: {each:.0f} MiB per image, at most {most}", each <= most)
            )
        if architecture == "mobile":
            few, many = (16, 64) if inputs.small else (64, 512)
            each = (prompts(segmenter, many, inputs) - prompts(segmenter, few, inputs)) / (
                many - few
            )
            rows.append([f"{many} prompts against {few}: per prompt", f"{each:.2f}"])
            if not inputs.on_cpu:
                statement = f"{each:.1f} MiB per prompt, at most {PER_PROMPT}"
                checks.append(Check(statement, each <= PER_PROMPT))
        del segmenter
    yield Table("Peak memory above what was in use, MiB", ["", "MiB"], rows)
    yield from checks
    yield from many_images(inputs)


def prompts(segmenter: SamSegmenter, n: int, inputs: Inputs) -> float:
    """Return the peak of one prediction, MiB."""
    embedding = segmenter.embed(inputs.images(1)[0])
    height, width = embedding.size
    points = np.random.default_rng(0).uniform(0, min(height, width), (n, 2)).astype(np.float32)
    return peak(lambda: segmenter.predict(embedding, points=points), inputs)


def many_images(inputs: Inputs) -> Iterator[Finding]:
    """Make masks of many images and compare the memory after the third with that at the end."""
    n, side = (5, 2) if inputs.small else (20, 32)
    source = AutoMasks(
        segmenter=SamSegmenter("mobile", device=inputs.device, keep=2), points_per_side=side
    )
    after = []
    for i, image in enumerate(inputs.images(n)):
        source(Sample(str(i), image))
        after.append(in_use(inputs))
    grown = after[-1] - after[2]
    most = CPU_GROWTH if inputs.on_cpu else GROWTH
    rows = [[i + 1, f"{after[i]:.1f}"] for i in sorted({0, 2, n // 2, n - 1})]
    yield Table("Memory in use after images, MiB", ["images", "MiB"], rows)
    yield Check(
        f"memory grew by {grown:.1f} MiB from image 3 to {n}, at most {most}", grown <= most
    )


def in_use(inputs: Inputs) -> float:
    """Return the memory in use: of tensors on the GPU, or of this process."""
    if inputs.on_cpu:
        return resident("VmRSS")
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated() / 2**20


def peak(work: Callable[[], object], inputs: Inputs) -> float:
    """Return the peak memory of a function above what was in use before."""
    before = in_use(inputs)
    if inputs.on_cpu:
        Path("/proc/self/clear_refs").write_text("5")  # the mark falls to what is resident now
        work()
        return resident("VmHWM") - before
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20 - before
