"""Shards one after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """This process does all shards.

    Args:
        threads: CPU threads of the worker. Sums over threads round differently, so the number is
            part of the masks' fingerprint and fixed, whatever the machine has.
    """

    threads: int = 2

    @property
    def identity(self) -> Mapping[str, Any]:
        """What changes the bytes of the output."""
        return {"threads": self.threads}

    def run(self, work: Callable[[int], None], shards: Sequence[int]) -> None:
        """Do ``work`` for every shard."""
        torch.set_num_threads(self.threads)
        faiss.omp_set_num_threads(self.threads)
        for shard in shards:
            work(shard)
