"""Limit the size of untrusted annotation files, and detect their encoding."""

from __future__ import annotations

import codecs
import errno
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from alps.structures.digest import digest

#: Maximum bytes of the annotations of one image or video; the largest published files have 10 MB.
MAX_IMAGE_BYTES = 2**26
#: Maximum bytes of the annotations of a dataset; the training file of COCO 2017 has 448 MB, that of
#: LVIS 1.1 GB.
MAX_DATASET_BYTES = 2**31
#: Byte order marks and their encodings; UTF-32 first, because its mark starts like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_bytes(path: Path, limit: int = MAX_IMAGE_BYTES) -> None:
    """Check the size of a file before it is read.

    Raises:
        OSError: there is no such file, or it has more than ``limit`` bytes.
    """
    size = path.stat().st_size
    if size > limit:
        raise OSError(
            errno.EFBIG,
            f"it has {size} bytes, the limit for such files is {limit}; check that it is the "
            "right file, or split it",
        )


def read_bytes(path: Path, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """Read a file; raise `OSError` if it is missing or has more than ``limit`` bytes."""
    check_bytes(path, limit)
    return path.read_bytes()


def digest_files(paths: Iterable[Path], classes: Iterable[str]) -> str:
    """Return a digest of the annotation files of one image.

    Args:
        paths: all annotation files of the image.
        classes: class names in the order of their ids. Box masks store these ids, so the digest
            must change with the classes.
    """
    return digest(list(classes), [_digest_file(path) for path in paths])


def _digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, or the reason why it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"  # reported when the image is read


def decode_text(data: bytes, errors: Literal["strict", "replace"] = "strict") -> str:
    """Decode text as UTF-8, or in the encoding of its byte order mark.

    Editors and spreadsheets on Windows write byte order marks; PowerShell writes UTF-16.

    Returns:
        The text without its byte order mark.

    Raises:
        ValueError: ``errors`` is "strict" and the text cannot be decoded.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding, errors=errors)
    except UnicodeDecodeError as error:
        raise ValueError(not_utf8(data, error)) from None


def not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    """Return a message that locates the first byte that is not UTF-8, with a remedy."""
    line = data.count(b"\n", 0, error.start) + 1
    return f"it is not UTF-8 (byte 0x{data[error.start]:02x} in line {line}); save it as UTF-8"
