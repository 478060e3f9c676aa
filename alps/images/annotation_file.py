"""Annotation files of unknown origin: none may be so large that reading it fills the memory."""

from __future__ import annotations

import errno
from pathlib import Path

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
