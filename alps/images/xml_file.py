"""Annotation files that are XML: what their readers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.parsers import expat

from alps.errors import ImageError
from alps.images.annotation_file import read_bytes
from alps.images.boxed import numbers


def read_xml(path: Path, root: str) -> Element:
    """The root of a file; raises `ImageError` unless it is whole and called ``root``."""
    try:
        element = parse_xml(read_bytes(path))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter: unknown encodings
        reason = " ".join(str(error).split())[:200]  # it may hold a piece of the file
        raise ImageError(
            f"{path} is no whole XML file: {reason}; it may be cut short, get it again"
        ) from error
    if element.tag.lower() != root.lower():
        raise ImageError(f"{path} is of another format: <{element.tag[:60]}>, expected <{root}>")
    return element


def parse_xml(data: bytes) -> Element:
    """The root of a document that declares no entity and no attribute.

    Entities name files, or grow to gigabytes out of a few lines ("billion laughs"); the default of
    a declared attribute is copied into every element; and no format of annotations has any of
    these. So the first one is refused where it is declared, before it is used.

    Raises:
        ValueError: it declares an entity or an attribute, or uses an entity that only a file
            elsewhere could declare.
        ExpatError: it is no XML.
        LookupError: its encoding is unknown.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity
    parser.SkippedEntityHandler = _refuse_entity
    parser.AttlistDeclHandler = _refuse_attribute
    parser.Parse(data, True)
    return builder.close()


def _refuse_entity(name: str, *_: object) -> None:
    raise ValueError(f"it has an entity of its own ({name[:60]}), and such are not expanded")


def _refuse_attribute(element: str, name: str, *_: object) -> None:
    raise ValueError(
        f"it declares an attribute ({element[:60]} {name[:60]}), and such are not filled in"
    )


def text(element: Element, path: str) -> str:
    """What an element below says; nothing where there is none."""
    return (element.findtext(path) or "").strip()


def values(element: Element, tags: Sequence[str]) -> list[float]:
    """The numbers in the elements of these names, NaN where there is none."""
    return numbers([text(element, tag) for tag in tags])


def is_difficult(element: Element) -> bool:
    """Whether an object is marked so."""
    return text(element, "difficult") not in ("", "0")


def plain(name: str) -> str:
    """A name without what its spellings differ in: "Baseball Field" is "baseball-field"."""
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")
