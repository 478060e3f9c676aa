"""The parts of the check, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One part; its module has a function ``measure`` that yields findings.

    Args:
        title: what it measures.
        module: name of the module in this package.
        limit: seconds after which it is ended on a GPU.
    """

    title: str
    module: str
    limit: int


#: Seconds after which a part is ended on a CPU, which may be busy.
CPU_LIMIT = 900
#: All parts by name; together they take at most eight minutes on a GPU.
PARTS: Mapping[str, Part] = {
    "environment": Part("GPU, driver, libraries", "environment", 10),
    "masks": Part("masks: GPU = CPU = segment_anything", "masks", 45),
    "speed": Part("seconds per image", "speed", 75),
    "launches": Part("kernels and synchronisations", "launches", 30),
    "memory": Part("memory per image and prompt", "memory", 40),
    "bytes": Part("equal bytes of stores", "stores", 60),
    "training": Part("training images per second", "training", 70),
    "experiments": Part("each experiment= with each net", "experiments", 90),
    "ddp": Part("several processes, SyncBN", "processes", 40),
    "kmeans": Part("faiss: GPU = CPU", "kmeans", 20),
}
