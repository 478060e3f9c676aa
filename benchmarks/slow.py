"""Drawn images that take a while to read, so that a run can be disturbed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from alps.structures.records import ImageRecord, Sample
from benchmarks.fake import DrawnImages, FakeSegmenter


@dataclass(frozen=True)
class SlowImages(DrawnImages):
    """See `DrawnImages`.

    Args:
        pause: seconds that reading takes besides.
    """

    pause: float = 0.0

    def read(self, record: ImageRecord) -> Sample:
        """Wait, and draw one."""
        time.sleep(self.pause)
        return DrawnImages.read(self, record)


def load_fake(**_: object) -> FakeSegmenter:
    """Take what SAM takes."""
    return FakeSegmenter()
