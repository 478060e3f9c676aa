"""Drawn images that take time to read, so that a run can be disturbed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from alps.structures.records import ImageRecord, Sample
from benchmarks.fake import DrawnImages, FakeSegmenter


@dataclass(frozen=True)
class SlowImages(DrawnImages):
    """`DrawnImages` with slow reading.

    Args:
        pause: additional seconds per image.
    """

    pause: float = 0.0

    def read(self, record: ImageRecord) -> Sample:
        """Wait, then draw one image."""
        time.sleep(self.pause)
        return DrawnImages.read(self, record)


def load_fake(**_: object) -> FakeSegmenter:
    """Accept the arguments of SAM."""
    return FakeSegmenter()
