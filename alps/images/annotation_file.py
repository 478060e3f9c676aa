"""Annotation files of unknown origin: none may be so large that reading it fills the memory."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from pathlib import Path

from alps.digest import digest

#: Bytes of a file about one image or one video; the largest published ones have some 10 MB.
LARGEST = 2**26
#: Bytes of a file about a whole dataset: instances_train2017.json of COCO has 448 MB, that of LVIS
#: 1.1 GB.
LARGEST_OF_ALL = 2**31


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
