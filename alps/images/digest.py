"""Digests of what is annotated: the content of files, never their dates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alps.images.annotation_file import read_bytes


def digest(*parts: Any) -> str:
    """Return a short sha256 of values that JSON knows; other values give another digest.

    >>> digest(["ship"], [0, 0, 4, 4]) == digest(["ship"], [0, 0, 4, 5])
    False
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def digest_files(paths: Iterable[Path], classes: Iterable[str]) -> str:
    """Return a digest of the annotation files of one image.

    Args:
        paths: all files that say something about the image.
        classes: names in the order of their ids, which masks of boxes keep: the same file stands
            for other ids where the classes are others.
    """
    return digest(list(classes), [_digest_file(path) for path in paths])


def _digest_file(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"  # reading the image reports it, too
