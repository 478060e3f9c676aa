"""What is annotated in a video: what the readers of its formats share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alps.boxes import Annotation
from alps.digest import digest

#: The class where a format has none of its own.
TEXT = "text"
#: Ids and frames are stored in 31 bits.
LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands in a frame: its objects, and a line for each that cannot be understood."""

    annotations: list[Annotation] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def add(self, found: Annotation | str) -> None:
        """Take an object, or the line about it."""
        if isinstance(found, str):
            self.unclear.append(found)
        else:
            self.annotations.append(found)

    @property
    def digest(self) -> str:
        """Of the objects but their true masks, which change no label, and of lines about others."""
        objects = [
            [a.category, [*map(float, a.points)], a.ignore, a.score, a.track_id, a.text]
            for a in self.annotations
        ]
        return digest(objects, self.unclear)


#: By frame, counted from 0; a frame that is not in it is not annotated.
Clip = Mapping[int, Marks]


def new_clip() -> defaultdict[int, Marks]:
    """A clip that frames are added to."""
    return defaultdict(Marks)


def whole(word: object) -> int | None:
    """The number that a word is or ends with, as 7 for "7", "7.0" and "frame_7", else None."""
    digits = re.search(r"(?<![\d.-])0*(\d{1,10})(\.0*)?$", str(word).strip())
    number = int(digits[1]) if digits else LARGEST + 1
    return number if number <= LARGEST else None


def video_name(path: Path) -> str:
    """The name of the video that an annotation file is of, where each has its own."""
    return re.sub("_GT$", "", path.stem, flags=re.IGNORECASE)
