"""Annotation files that are XML: what their readers share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.parsers import expat

from alps.errors import ImageError
from alps.images.files.limits import decode_text, read_bytes
from alps.images.files.words import numbers, parse_switch

#: Encodings of several bytes a letter, which expat does not know, and what Python reads them as;
#: GB 18030 holds GB 2312 and GBK. All are ASCII as far as the markup goes.
MULTIBYTE: Mapping[str, str] = {
    **dict.fromkeys(("gb2312", "gbk", "cp936", "gb18030"), "gb18030"),
    **dict.fromkeys(("big5", "cp950"), "cp950"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "windows-31j", "cp932"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "cp949"), "cp949"),
    "euc-jp": "euc_jp",
}
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_BARE = re.compile(r"&(?!(?:#\d+|#x[0-9a-fA-F]+|amp|lt|gt|quot|apos);)")


def read_xml(path: Path, root: str) -> Element:
    """The root of a file; raises `ImageError` unless it is whole and called ``root``."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    try:
        element = parse_xml(data)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter: unknown encodings
        if problem := _find_problem(data, error):
            raise ImageError(f"{path} is no XML: {problem}") from error
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
            elsewhere could declare; it is not in the encoding that it declares.
        ExpatError: it is no XML.
        LookupError: its encoding is unknown.
    """
    encoding = None
    if codec := MULTIBYTE.get(_declared(data)):
        data, encoding = data.decode(codec).encode(), "utf-8"  # what is declared counts no more
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity
    parser.SkippedEntityHandler = _refuse_entity
    parser.AttlistDeclHandler = _refuse_attribute
    parser.Parse(data, True)
    return builder.close()


def _declared(data: bytes) -> str:
    """Return the encoding that a document declares, in lower case; "" where it declares none."""
    found = _DECLARED.match(data)
    return found[1].decode().lower() if found else ""


def _find_problem(data: bytes, error: Exception) -> str:
    """Say which of the mistakes that people make is in a document, and how to mend it."""
    declared = _declared(data)
    if declared in ("", "utf-8", "utf8"):
        try:
            text = decode_text(data)
        except ValueError as other:
            return str(other)
    elif codec := MULTIBYTE.get(declared):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            return f"it says that it is in {declared}, and is not; save it as UTF-8"
    elif isinstance(error, LookupError | UnicodeError) or "encoding" in str(error):
        return f"it says that it is in {declared}, which cannot be read; save it as UTF-8"
    else:
        return ""
    if "<!DOCTYPE" not in text and (bare := _BARE.search(text)):
        line = text.count("\n", 0, bare.start()) + 1
        piece = text[max(bare.start() - 10, 0) : bare.start() + 10]
        return f"it has a bare & in line {line} ({piece!r}); write &amp; there"
    return ""


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


def is_difficult(element: Element) -> bool | None:
    """Whether an object is marked so; None where the mark is none of `SWITCH`."""
    return parse_switch(text(element, "difficult"))


def unclear_mark(element: Element) -> str:
    """Say what is wrong where `is_difficult` is None."""
    return f"<difficult> is {text(element, 'difficult')[:60]!r}, expected 0 or 1"


def stated_size(root: Element, height: str, width: str) -> tuple[int, int] | None:
    """The (H, W) in the elements at two paths; None where a side is not stated, or as 0."""
    sides = numbers([text(root, height), text(root, width)])
    if not all(side >= 1 and side.is_integer() for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def plain(name: str) -> str:
    """A name without what its spellings differ in: "Baseball Field" is "baseball-field"."""
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")
