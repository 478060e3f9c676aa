"""The machine and its libraries."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from benchmarks.gpu.findings import Check, Finding, Skipped, Table
from benchmarks.gpu.inputs import Inputs

ROOT = Path(__file__).parents[2]


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Yield versions and settings, and check the dependencies of pyproject.toml."""
    rows = [["machine", machine(inputs.device)], ["Python", sys.version.split()[0]]]
    rows += [["torch", torch.__version__], ["CUDA of torch", torch.version.cuda]]
    rows += [["cuDNN", torch.backends.cudnn.version()]]
    rows += [["TF32 in products", torch.get_float32_matmul_precision() != "highest"]]
    rows += [["TF32 in convolutions", torch.backends.cudnn.allow_tf32]]
    if inputs.on_cpu:
        yield Skipped("no GPU is used, so there is no driver and no GPU memory")
    else:
        free, total = torch.cuda.mem_get_info()
        rows += [["driver", driver()], ["GPUs", torch.cuda.device_count()]]
        rows += [["compute capability", ".".join(map(str, torch.cuda.get_device_capability()))]]
        rows += [["memory, free of total, GiB", f"{free / 2**30:.1f} of {total / 2**30:.1f}"]]
        rows += [["bfloat16", torch.cuda.is_bf16_supported(including_emulation=False)]]
    yield Table("Environment", ["", ""], rows)
    unmet = unmet_requirements()
    yield Check(
        f"the dependencies are installed{': not ' * bool(unmet)}{', '.join(unmet)}", not unmet
    )
    a = torch.eye(64, device=inputs.device)
    yield Check("the device multiplies matrices", bool((a @ a == a).all()))


def machine(device: str) -> str:
    """Return the processor and the GPU."""
    names = [platform.machine(), f"{os.cpu_count()} cores"]
    for entry in Path("/proc/cpuinfo").read_text().splitlines():
        if entry.startswith("model name"):
            names.insert(0, entry.partition(":")[2].strip())
            break
    if device == "cuda":
        names.insert(0, torch.cuda.get_device_name())
    return ", ".join(names)


def driver() -> str:
    """Return the version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown: nvidia-smi does not run"
    return done.stdout.strip() or "unknown"


def unmet_requirements() -> list[str]:
    """Return the dependencies that are missing or too old."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    unmet = []
    for requirement in map(Requirement, project["dependencies"]):
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            unmet.append(str(requirement))
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f"{requirement} (installed: {installed})")
    return unmet
