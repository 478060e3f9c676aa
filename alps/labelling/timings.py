"""Time spent in the stages of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timings:
    """Seconds and number of images per stage of this run.

    The seconds of parallel workers and threads are summed, so those of a run may exceed its
    duration. The times are not kept in the store.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str, images: int = 0) -> Iterator[None]:
        """Add the time of a ``with`` block, and a number of images, to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.images[stage] = self.images.get(stage, 0) + images

    def add(self, other: Timings) -> None:
        """Add the times measured by another process."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
            self.images[stage] = self.images.get(stage, 0) + other.images[stage]
