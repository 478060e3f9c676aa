"""The nearest of some points by faiss, on a GPU where its build and the machine have one."""

from __future__ import annotations

from functools import cache
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Int64

#: Bytes; faiss's own 1.5 GB are too many for brute force (its wiki, "Brute force search without an
#: index"), and SAM may need them.
SCRATCH = 64 << 20


def on_gpu() -> bool:
    """Whether distances are compared on a GPU: never with the wheel faiss-cpu.

    Sums of products are rounded otherwise there, so a row between two points may fall to the other
    one: who keeps what was found must keep this beside it.
    """
    return bool(faiss.get_num_gpus() > 0)


def search(
    rows: Float32[np.ndarray, "n D"], points: Float32[np.ndarray, "K D"]
) -> Int64[np.ndarray, " n"]:
    """Which of the points is nearest to each row."""
    asked = (rows, points, 1)
    found = faiss.knn_gpu(_resources(), *asked) if on_gpu() else faiss.knn(*asked)
    nearest: Int64[np.ndarray, " n"] = found[1][:, 0]
    return nearest


@cache
def _resources() -> Any:
    """Scratch memory on the GPU, asked for once."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(SCRATCH)
    return resources
