"""Read BOVText: one JSON file of tracked words per video (arXiv 2112.04888).

The file of Cls1_Livestreaming_video1.mp4 is Cls1_Livestreaming_video1.json
(https://github.com/weijiawu/BOVText-Benchmark)::

    {"1": [{"points": [97, 382, 126, 382, 125, 410, 97, 411], "ID": "1", "transcription": "T",
            "category": "scene text", "language": "English", "ID_transcription": "T"}],
     "2": []}

On the dataset's web page, frames are named ``frame_1`` and the track is ``tracking ID``; both are
accepted, too. The files count frames from 1, ALPS from 0. A frame without objects is annotated as
empty. Illegible words are ignored. Titles, captions and scene text are one class, as in SAMText.
"""

from __future__ import annotations

from pathlib import Path

from alps.errors import ImageError
from alps.images.files.fields import parse_numbers, read_text
from alps.images.files.text import parse_integer, parse_json
from alps.images.video.clip import TEXT, Clip, new_clip, video_name
from alps.structures.boxes import Annotation

#: Placeholders of illegible words; the first two are documented on the dataset's web page.
ILLEGIBLE = ("###", "#1", "##DONT#CARE##")


def parse(path: Path) -> dict[str, Clip]:
    """Read the clip in a file; raise `ImageError` if it is truncated or has another format."""
    try:
        frames = parse_json(read_text(path))
    except ValueError as error:
        raise ImageError(
            f"{path} is not a complete JSON file: {error}; it may be truncated, download it again"
        ) from error
    if not isinstance(frames, dict) or not all(isinstance(f, list) for f in frames.values()):
        raise ImageError(f"{path} has another format: expected a list of words for each frame")
    clip, index = new_clip(), 0
    for key, items in frames.items():
        number = parse_integer(key)
        if not number:
            clip[index].add(
                f"frame {key!r}: expected a number from 1; the objects of the frame are skipped"
            )
            continue
        index = number - 1
        frame = clip[index]
        for i, item in enumerate(items, 1):
            frame.add(_read(item, f"frame {number} object {i}"))
    return {video_name(path): clip}


def _read(item: object, where: str) -> Annotation | str:
    """Convert an object to an annotation, or return an error message."""
    if not isinstance(item, dict) or not isinstance(item.get("points"), list):
        return f"{where}: no points, expected a list of x1 y1 … x4 y4"
    name = item.get("ID", item.get("tracking ID"))
    track_id = parse_integer(name)
    if track_id is None:
        return f"{where}: track ID {name!r}, expected an integer"
    transcription = item.get("transcription") or ""
    illegible = transcription in ILLEGIBLE
    text = None if illegible else str(transcription) or None
    points = parse_numbers([str(value) for value in item["points"]])
    return Annotation(where, TEXT, points, ignore=illegible, track_id=track_id, text=text)
