"""Nearest-neighbour search with faiss, on a GPU if faiss was built for one and finds it."""

from __future__ import annotations

from functools import cache
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Int64

#: Bytes of temporary GPU memory. Brute force needs less than the default of 1.5 GB (wiki of faiss,
#: "Brute force search without an index"), and SAM may need the memory.
TEMP_MEMORY = 64 << 20


def on_gpu() -> bool:
    """Return whether the search runs on a GPU; always False with the wheel faiss-cpu.

    A GPU rounds differently, so it may assign a row half-way between two points differently. The
    identity of stored results must therefore contain this value.
    """
    return bool(faiss.get_num_gpus() > 0)


def search(
    rows: Float32[np.ndarray, "n D"], points: Float32[np.ndarray, "K D"]
) -> Int64[np.ndarray, " n"]:
    """Return the index of the nearest point of each row."""
    arguments = (rows, points, 1)
    result = faiss.knn_gpu(_resources(), *arguments) if on_gpu() else faiss.knn(*arguments)
    nearest: Int64[np.ndarray, " n"] = result[1][:, 0]
    return nearest


@cache
def _resources() -> Any:
    """Return the GPU resources, allocated once per process."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMP_MEMORY)
    return resources
