"""What is annotated in a video: what the readers of its formats share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from alps.structures.boxes import Marks

#: The class where a format has none of its own.
TEXT = "text"


#: By frame, counted from 0; a frame that is not in it is not annotated.
Clip = Mapping[int, Marks]


def new_clip() -> defaultdict[int, Marks]:
    """A clip that frames are added to."""
    return defaultdict(Marks)


def video_name(path: Path) -> str:
    """The name of the video that an annotation file is of, where each has its own."""
    return re.sub("_GT$", "", path.stem, flags=re.IGNORECASE)
