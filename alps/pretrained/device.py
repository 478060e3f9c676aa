"""The device of a network, chosen in the process that computes."""

from __future__ import annotations

import os
import socket

import torch

from alps.errors import ConfigError

#: Environment variable with the number of processes on each GPU, which divide its memory.
PROCESSES_PER_GPU = "ALPS_PROCESSES_PER_GPU"
#: Fraction of a GPU's memory that its processes divide; the rest is for their CUDA contexts.
SHARED_FRACTION = 0.9


class DeviceSetting:
    """The setting ``device``: a PyTorch device, or "auto" for the first GPU, else the CPU.

    The process that plans a store may lack the GPUs of its workers, so each process chooses its own
    device. But all must choose the same kind, since GPUs and CPUs round differently and the store
    records the kind among its settings.

    Args:
        name: "auto" or a PyTorch device, such as "cpu", "cuda" or "cuda:1".
        key: name of the setting in errors, such as "sam.device".
    """

    def __init__(self, name: str, *, key: str) -> None:
        self.name, self.key = name, key
        self._kind = None if name == "auto" else torch.device(name).type

    @property
    def kind(self) -> str:
        """Kind of the device, such as "cpu" or "cuda"; once it is known, it is pickled too."""
        if self._kind is None:
            self._kind = _best_kind()
        return self._kind

    def choose(self) -> torch.device:
        """Return the device of this process, and limit this process to its share of a GPU's memory.

        Raises:
            ConfigError: this process has no device of this `kind`, "auto" is another kind here
                than in the process that planned the store, or the number of processes per GPU in
                the environment is invalid.
        """
        here = _best_kind()
        if self.kind == "cuda" and here != "cuda":
            raise ConfigError(
                f"{self.key}={self.name}: PyTorch finds no GPU in the process on "
                f"{socket.gethostname()}, but this run is for GPUs; set {self.key}=cpu, or give "
                "every worker a GPU"
            )
        if self.name == "auto" and self.kind != here:
            raise ConfigError(
                f"{self.key}=auto: the process on {socket.gethostname()} has a GPU, but the one "
                f"that planned the run has none and recorded {self.kind}; set {self.key}=cuda to "
                f"use the GPUs of the workers, or {self.key}=cpu"
            )
        device = torch.device(self.kind if self.name == "auto" else self.name)
        processes = _processes_per_gpu()
        if device.type == "cuda" and processes > 1:
            torch.cuda.set_per_process_memory_fraction(SHARED_FRACTION / processes, device.index)
        return device


def _processes_per_gpu() -> int:
    text = os.environ.get(PROCESSES_PER_GPU, "1")
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"{PROCESSES_PER_GPU}={text}: expected an integer >= 1")
    return int(text)


def _best_kind() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
