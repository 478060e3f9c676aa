"""Annotation files of unknown origin: their size is limited, their encoding is recognised."""

from __future__ import annotations

import codecs
import errno
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from alps.structures.digest import digest

#: Bytes of a file about one image or one video; the largest published ones have some 10 MB.
LARGEST = 2**26
#: Bytes of a file about a whole dataset: instances_train2017.json of COCO has 448 MB, that of LVIS
#: 1.1 GB.
LARGEST_OF_ALL = 2**31
#: Byte order marks and the encoding of what follows; UTF-32 first, for UTF-16's is its beginning.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_bytes(path: Path, limit: int = LARGEST) -> None:
    """Look at a file's size before it is read.

    Raises:
        OSError: there is no such file, or it has more than ``limit`` bytes.
    """
    size = path.stat().st_size
    if size > limit:
        raise OSError(
            errno.EFBIG,
            f"it has {size} bytes, the limit of such a file is {limit}; look whether it is what it "
            "should be, or split it",
        )


def read_bytes(path: Path, limit: int = LARGEST) -> bytes:
    """The whole file; raises as `check_bytes` does."""
    check_bytes(path, limit)
    return path.read_bytes()


def digest_files(paths: Iterable[Path], classes: Iterable[str]) -> str:
    """Return a digest of the content of all annotation files of one image.

    Args:
        paths: all files that say something about the image.
        classes: names in the order of their ids, which the masks of boxes keep: where the classes
            are others, the same file stands for other ids.
    """
    return digest(list(classes), [_digest_file(path) for path in paths])


def _digest_file(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"  # reading the image reports it, too


def decode_text(data: bytes, errors: Literal["strict", "replace"] = "strict") -> str:
    """Decode UTF-8, or what a byte order mark says; the mark itself is dropped.

    Editors and spreadsheets on Windows write such marks, PowerShell writes UTF-16.

    Raises:
        ValueError: ``errors`` is strict, and the text is in another encoding.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding, errors=errors)
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(data, error)) from None


def not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    """Say where bytes are no UTF-8, and what to do about it."""
    line = data.count(b"\n", 0, error.start) + 1
    return f"it is not in UTF-8 (byte 0x{data[error.start]:02x} in line {line}); save it as UTF-8"
