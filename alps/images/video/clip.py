"""Type of the annotations of a video, shared by the readers of all formats."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from alps.structures.boxes import FrameAnnotations

#: Class name for formats without classes.
TEXT = "text"


#: Annotations by frame index, counted from 0; missing frames are not annotated.
Clip = Mapping[int, FrameAnnotations]


def new_clip() -> defaultdict[int, FrameAnnotations]:
    """Return a clip without frames."""
    return defaultdict(FrameAnnotations)


def video_name(path: Path) -> str:
    """Return the name of the video that an annotation file belongs to (one file per video)."""
    return re.sub("_GT$", "", path.stem, flags=re.IGNORECASE)
