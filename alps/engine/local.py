"""Shards one after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import faiss
import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """This process does all shards.

    Args:
        threads: CPU threads. Mask sources and k-means split their work over that many; each piece
            is computed by one, so the number does not change a byte.
    """

    threads: int = 2

    def run(self, work: Callable[[int], None], shards: Sequence[int]) -> None:
        """Do ``work`` for every shard."""
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(self.threads)
        for shard in shards:
            work(shard)
