"""Read ICDAR 2015 "Text in Videos" and DSText: one XML file of tracked words per video.

The file of Video_10_1_1.mp4 is Video_10_1_1_GT.xml (https://rrc.cvc.uab.es/?ch=3&com=tasks)::

    <Frames>
      <frame ID="1">
        <object Transcription="T" ID="1001" Language="Spanish" Mirrored="unmirrored" Quality="LOW">
          <Point x="97" y="382" /> <Point x="126" y="382" />
          <Point x="125" y="410" /> <Point x="97" y="411" />
        </object>
      </frame>
      <frame ID="2"></frame>
    </Frames>

The files count frames from 1, ALPS from 0. A frame without objects is annotated as empty. The ID of
an object is the track id. Words of low quality, or with the transcription ``##DONT#CARE##``, are
ignored. DSText (https://rrc.cvc.uab.es/?ch=22&com=tasks, arXiv 2304.04376) has ``Category`` instead
of ``Mirrored`` and ``Quality``. Names are compared case-insensitively, because releases differ in
their case.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from alps.images.files.fields import parse_numbers
from alps.images.files.text import parse_integer
from alps.images.files.xml_file import read_xml
from alps.images.video.clip import TEXT, Clip, new_clip, video_name
from alps.structures.boxes import Annotation

#: Placeholders of illegible words.
ILLEGIBLE = ("##DONT#CARE##", "###")


def parse(path: Path) -> dict[str, Clip]:
    """Read the clip in a file; raise `ImageError` if it is truncated or has another format."""
    clip, index = new_clip(), 0
    for item in read_xml(path, "frames").findall("frame"):
        number = parse_integer(_lower(item).get("id", ""))
        if not number:
            clip[index].add(
                f"<frame> after frame {index + 1}: no ID from 1; the objects of the frame are "
                "skipped"
            )
            continue
        index = number - 1
        frame = clip[index]
        for i, element in enumerate(item.findall("object"), 1):
            frame.add(_read(element, f"frame {number} object {i}"))
    return {video_name(path): clip}


def _read(element: Element, where: str) -> Annotation | str:
    """Convert an object to an annotation, or return an error message."""
    values = _lower(element)
    track_id = parse_integer(values.get("id", ""))
    if track_id is None:
        return f"{where}: track ID {values.get('id')!r}, expected an integer"
    corners = [_lower(point) for point in element if point.tag.lower() == "point"]
    transcription = values.get("transcription", "")
    illegible = transcription in ILLEGIBLE
    return Annotation(
        where,
        TEXT,
        parse_numbers([corner.get(axis, "") for corner in corners for axis in "xy"]),
        ignore=illegible or values.get("quality", "").lower() == "low",
        track_id=track_id,
        text=None if illegible else transcription or None,
    )


def _lower(element: Element) -> dict[str, str]:
    """Return the attributes of an element with names in lower case."""
    return {name.lower(): value for name, value in element.attrib.items()}
