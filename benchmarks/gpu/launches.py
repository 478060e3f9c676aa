"""Kernels and synchronisations per image and per training step.

On a GPU, torch.profiler counts them; without one, a pretend device counts those of an image
(`tests.pretend_cuda`), and a training step is only profiled.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import Callback
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from alps.sam.segmenter import SamSegmenter
from benchmarks.gpu.findings import Check, Finding, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.training import NETS, sizes
from benchmarks.nets import configuration
from benchmarks.train import ours, write_pairs
from tests.launches import MAX_KERNELS, MAX_WAITS, STAGES, default_recipe
from tests.pretend_cuda import PretendCuda, by_stage

#: Calls in which the CPU waits for the GPU; their names begin so.
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
#: The budgets count operators, some of which launch two kernels or more.
KERNELS_PER_OPERATOR = 2
SKIP = 5  # training steps before the profile
COLUMNS = ("", "kernels", "synchronisations")


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Yield the counts of an image, then those of a training step."""
    logging.getLogger("lightning").setLevel(logging.ERROR)
    yield from count_pretended(inputs) if inputs.on_cpu else count_image(inputs)
    yield from count_step(inputs)


def count_image(inputs: Inputs) -> Iterator[Finding]:
    """Profile the default recipe on an image of 1024 px."""
    label = default_recipe(SamSegmenter("mobile", device="cuda"), inputs.images(1)[0], 32)
    counts = count(label)
    rows = [["recipe=alps, 1024 px, 32 x 32 points", counts["kernels"], counts["waits"]]]
    yield Table("Per image", COLUMNS, rows)
    most = KERNELS_PER_OPERATOR * MAX_KERNELS
    yield Check(f"{counts['kernels']} kernels per image, at most {most}", counts["kernels"] <= most)
    yield Check(
        f"{counts['waits']} synchronisations per image, at most {MAX_WAITS}",
        counts["waits"] <= MAX_WAITS,
    )


def count_pretended(inputs: Inputs) -> Iterator[Finding]:
    """Count operators of the same recipe on a pretend GPU, with few points."""
    with PretendCuda() as cuda:
        label = default_recipe(SamSegmenter("mobile", device="cuda"), inputs.images(1)[0], 4)
        with cuda.stages(STAGES):
            cuda.reset()
            label()
    kernels, waits = by_stage(cuda.kernels), by_stage(cuda.waits)
    rows = [[stage or "the rest", n, waits[stage]] for stage, n in kernels.most_common()]
    yield Table("Per image, counted on a pretend GPU, 1024 px, 4 x 4 points", COLUMNS, rows)
    n, w = kernels.total(), waits.total()
    yield Check(f"{n} kernels per image, at most {MAX_KERNELS}", 0 < n <= MAX_KERNELS)
    yield Check(f"{w} synchronisations per image, at most {MAX_WAITS}", 0 < w <= MAX_WAITS)


def count_step(inputs: Inputs) -> Iterator[Finding]:
    """Profile training steps without validation."""
    images = write_pairs(inputs.folder, inputs.images(1)[0])
    steps = 2 if inputs.small else 10
    length = f"trainer.max_steps={SKIP + steps}"
    cfg = configuration(*NETS[0], inputs.trainer, *sizes(inputs), length, "~callbacks.progress")
    window = ProfiledSteps(steps)
    ours(cfg, images, window)
    kernels, waits = (window.counts[kind] / steps for kind in ("kernels", "waits"))
    yield Table("Per training step", COLUMNS, [[NETS[0][0], f"{kernels:.0f}", f"{waits:.1f}"]])
    if inputs.on_cpu:
        yield Check("a training step was profiled", window.counts["operators"] > 0)
    else:
        yield Check(f"{waits:.1f} synchronisations per training step, at most 1", waits <= 1)


class ProfiledSteps(Callback):
    """Profiles ``steps`` training steps after the first ones."""

    def __init__(self, steps: int) -> None:
        self.step, self.end = 0, SKIP + steps
        self.profile = profile(activities=activities())
        self.counts: Counter[str] = Counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Start and stop the profiler."""
        self.step += 1
        if self.step == SKIP:
            self.profile.start()
        elif self.step == self.end:
            self.profile.stop()
            self.counts = counted(self.profile)


def activities() -> list[ProfilerActivity]:
    """Return what is profiled: calls on the CPU, and kernels if there is a GPU."""
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return [ProfilerActivity.CPU, *gpu]


def count(work: Callable[[], object]) -> Counter[str]:
    """Return the number of kernels, waits and operators of a function, once it is warm."""
    work()
    torch.cuda.synchronize()
    with profile(activities=activities()) as profiled:
        work()
    return counted(profiled)


def counted(profiled: profile) -> Counter[str]:
    """Count the events of a profile."""
    counts: Counter[str] = Counter()
    for event in profiled.events() or []:
        name = event.name
        if event.device_type == DeviceType.CUDA:
            counts["kernels"] += not name.startswith(("Memcpy", "Memset"))
        elif name.startswith(WAITS):
            counts["waits"] += 1
        else:
            counts["operators"] += name.startswith("aten::")
    return counts
