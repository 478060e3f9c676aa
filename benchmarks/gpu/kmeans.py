"""Clusters with faiss on the GPU against faiss on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from unittest.mock import patch

import faiss
import numpy as np

from alps.assign.kmeans import fit_kmeans
from alps.assign.rows import Rows
from alps.assign.search import on_gpu, search
from benchmarks.gpu.findings import Check, Finding, Skipped, Table
from benchmarks.gpu.inputs import Inputs
from benchmarks.kmeans import BATCH, features, inertia

#: Share of rows that rounding may assign to another cluster, and of the inertia that may differ.
ROWS, INERTIA = 0.001, 0.01


def measure(inputs: Inputs) -> Iterator[Finding]:
    """Fit on the CPU and, if faiss can, on the GPU."""
    n, k = (2_000, 8) if inputs.small else (100_000, 256)
    rows = features(n)
    both: dict[str, tuple[float, float, np.ndarray]] = {}
    for name in ("GPU", "CPU") if on_gpu() and not inputs.on_cpu else ("CPU",):
        with patch("alps.assign.search.on_gpu", lambda name=name: name == "GPU"):
            start = perf_counter()
            fitted = fit_kmeans(Rows([rows]), k, niter=5, batch_size=BATCH, seed=0)
            both[name] = (perf_counter() - start, inertia(rows, fitted.centroids), fitted.centroids)
    cells = [[name, f"{spent:.2f}", f"{value:.0f}"] for name, (spent, value, _) in both.items()]
    yield Table(f"k-means, {n:,} rows, {k} clusters", ["faiss on the", "s", "inertia"], cells)
    if "GPU" not in both:
        version = f"faiss {faiss.__version__} here ({faiss.get_compile_options().strip()})"
        yield Skipped(f"{version} has no GPU; the wheel faiss-cpu never has")
        return
    centroids = both["CPU"][2]
    part = rows[:20_000].astype(np.float32)
    same = float((search(part, centroids) == faiss.knn(part, centroids, 1)[1][:, 0]).mean())
    yield Check(f"{same:.2%} of the rows have the same nearest cluster", same >= 1 - ROWS)
    share = both["GPU"][1] / both["CPU"][1]
    yield Check(f"the inertia is {share:.4f} of that on the CPU", abs(share - 1) <= INERTIA)
