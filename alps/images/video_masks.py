"""Videos with a table of tracked boxes and, in its column ``counts``, their true masks."""

from __future__ import annotations

from alps.boxes import Boxes
from alps.images.rows import read_counts
from alps.images.video import VideoBoxes
from alps.types import ImageRecord, Masks


class VideoMasks(VideoBoxes):
    """As `alps.images.video.VideoBoxes`; of the formats it reads only a table has true masks."""

    @property
    def has_instances(self) -> bool:
        """Whether any object has a true mask."""
        return any(clip.masks for clip in self._listed.values())

    def read_instances(self, record: ImageRecord, boxes: Boxes, size: tuple[int, int]) -> Masks:
        """The true masks of those boxes that have one; a bad one is told and left out.

        Args:
            record: the frame.
            boxes: some of those that `read` gave.
            size: (H, W) of the frame.
        """
        file, marks = self._marks(record)
        return read_counts(marks.annotations, boxes, size, file)
