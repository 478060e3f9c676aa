"""Annotation files that are XML: what their readers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from alps.errors import ImageError
from alps.images.boxed import numbers


def read_xml(path: Path, root: str) -> Element:
    """The root of a file; raises `ImageError` unless it is whole and called ``root``."""
    try:
        # Files that it refers to are not read, and expat stops entities that grow without bounds.
        element = ET.fromstring(path.read_bytes())  # noqa: S314
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (ET.ParseError, ValueError, LookupError) as error:  # the latter: unknown encodings
        raise ImageError(
            f"{path} is no whole XML file: {error}; it may be cut short, get it again"
        ) from error
    if element.tag.lower() != root.lower():
        raise ImageError(f"{path} is of another format: <{element.tag}>, expected <{root}>")
    return element


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
