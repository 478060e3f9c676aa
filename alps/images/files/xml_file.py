"""Parse XML annotation files safely; shared by all readers of XML formats."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element
from xml.parsers import expat

from alps.errors import ImageError
from alps.images.files.fields import parse_flag, parse_numbers
from alps.images.files.limits import decode_text, read_bytes

#: Multi-byte encodings that expat does not support, with Python's codecs for them; GB 18030
#: includes GB 2312 and GBK. In all of them the markup is ASCII.
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
    """Return the root element; raise `ImageError` if the file is damaged or has another root."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    try:
        element = parse_xml(data)
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        if problem := _find_problem(data, error):
            raise ImageError(f"{path} is not XML: {problem}") from error
        reason = " ".join(str(error).split())[:200]  # the message may quote the file
        raise ImageError(
            f"{path} is not a complete XML file: {reason}; it may be truncated, download it again"
        ) from error
    if element.tag.lower() != root.lower():
        raise ImageError(f"{path} has another format: <{element.tag[:60]}>, expected <{root}>")
    return element


def parse_xml(data: bytes) -> Element:
    """Return the root element of a document that declares no entities and no attributes.

    Entities can refer to files, or expand from a few lines to gigabytes ("billion laughs"), and the
    default value of a declared attribute is copied into every element. No annotation format uses
    such declarations, so the first one is refused. (defusedxml would allow declared attributes or
    refuse every DOCTYPE, and reject multi-byte encodings.)

    Raises:
        ValueError: the document declares an entity or an attribute, uses an entity of an external
            file, or is not in its declared encoding.
        ExpatError: the document is not XML.
        LookupError: its encoding is unknown.
    """
    encoding = None
    if codec := MULTIBYTE.get(_declared(data)):
        data, encoding = data.decode(codec).encode(), "utf-8"  # overrides the declared encoding
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
    """Return the declared encoding of a document in lower case, or "" if there is none."""
    match = _DECLARED.match(data)
    return match[1].decode().lower() if match else ""


def _find_problem(data: bytes, error: Exception) -> str:
    """Describe a common mistake in a document with its remedy; return "" if there is none."""
    declared = _declared(data)
    if declared in ("", "utf-8", "utf8"):
        try:
            text = decode_text(data)
        except ValueError as problem:
            return str(problem)
    elif codec := MULTIBYTE.get(declared):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            return f"it declares the encoding {declared}, but has another; save it as UTF-8"
    elif isinstance(error, LookupError | UnicodeError) or "encoding" in str(error):
        return f"it declares the encoding {declared}, which cannot be read; save it as UTF-8"
    else:
        return ""
    if "<!DOCTYPE" not in text and (bare := _BARE.search(text)):
        line = text.count("\n", 0, bare.start()) + 1
        piece = text[max(bare.start() - 10, 0) : bare.start() + 10]
        return f"it has an unescaped & in line {line} ({piece!r}); write &amp; instead"
    return ""


def _refuse_entity(name: str, *_: object) -> None:
    """Raise `ValueError` for a declared or unknown entity."""
    raise ValueError(f"it declares an entity ({name[:60]}); declared entities are not expanded")


def _refuse_attribute(element: str, name: str, *_: object) -> None:
    """Raise `ValueError` for a declared attribute."""
    raise ValueError(
        f"it declares an attribute ({element[:60]} {name[:60]}); declared attributes are not read"
    )


def text(element: Element, path: str) -> str:
    """Return the stripped text of the element at ``path``; "" if there is none."""
    return (element.findtext(path) or "").strip()


def values(element: Element, tags: Sequence[str]) -> list[float]:
    """Return the numbers in the elements ``tags``; NaN for a missing or malformed number."""
    return parse_numbers([text(element, tag) for tag in tags])


def is_difficult(element: Element) -> bool | None:
    """Return whether an object is marked as difficult; None if the flag is not in `FLAGS`."""
    return parse_flag(text(element, "difficult"))


def describe_flag(element: Element) -> str:
    """Return the message for a difficult flag that `is_difficult` cannot parse."""
    return f"<difficult> is {text(element, 'difficult')[:60]!r}, expected 0 or 1"


def stated_size(root: Element, height: str, width: str) -> tuple[int, int] | None:
    """Return the (H, W) that a file states, px; None unless both are positive integers.

    Args:
        root: root element of the file.
        height: path of the element with the height.
        width: path of the element with the width.
    """
    sides = parse_numbers([text(root, height), text(root, width)])
    if not all(side >= 1 and side.is_integer() for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def plain(name: str) -> str:
    """Return a name in lower case without spaces, hyphens and underscores."""
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")
