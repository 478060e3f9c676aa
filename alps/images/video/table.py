"""Read tables of tracked boxes (CSV or Parquet): one row per box, with video and frame.

::

    video,frame,track,x0,y0,x1,y1,text
    Video_10_1_1,0,1001,97,382,126,411,T

Columns: ``video``, the name of the video or its path relative to the video folder; ``frame``,
counted from 0; ``x0 y0 x1 y1``, the corners of a horizontal box in pixels, or ``x0 y0`` to
``x3 y3``, the corners of a rotated box; and optionally ``track`` (an integer), ``text``,
``category`` (by default "text"), ``ignore`` (0 or 1), ``score`` and ``counts`` (the ground-truth
mask in COCO's compressed run-length encoding). Columns with other names are ignored. One file may
contain many videos.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from alps.images.files.box_rows import read_rows, row_to_annotation
from alps.images.files.text import parse_integer
from alps.images.video.clip import TEXT, Clip, new_clip
from alps.structures.boxes import FrameAnnotations


def parse(path: Path) -> dict[str, Clip]:
    """Read the clips in a table by video name; raise `LabelError` if the table cannot be read."""
    clips: defaultdict[str, defaultdict[int, FrameAnnotations]] = defaultdict(new_clip)
    for i, row in enumerate(read_rows(path, ["video", "frame"]), 1):
        number = parse_integer(row["frame"])
        clip = clips[row["video"]]
        if number is None:
            line = f"row {i}: frame {row['frame']!r}, expected an integer from 0"
            clip[max(clip, default=0)].add(line)
        else:
            clip[number].add(row_to_annotation(row, f"row {i}", TEXT))
    return dict(clips)
