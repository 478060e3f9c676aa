"""Derive image ids from file names; output files are named after the id of their image."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from alps.errors import ConfigError


def to_nfc(name: str) -> str:
    """Return a name in Unicode NFC, because some file systems decompose accented letters.

    >>> len("e\N{COMBINING ACUTE ACCENT}"), len(to_nfc("e\N{COMBINING ACUTE ACCENT}"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def image_ids(files: Sequence[PurePosixPath]) -> list[str]:
    """Return one id per file: its path without the suffix; ids are unique case-insensitively.

    Files that would have the same id keep their suffix, so ids do not depend on the order of files.

    >>> image_ids([PurePosixPath(f) for f in ("a/OSBS_029.tif", "a/OSBS_029.png", "b.png")])
    ['a/OSBS_029.tif', 'a/OSBS_029.png', 'b']

    Raises:
        ConfigError: two paths differ only in case or Unicode normalisation; on some disks, the
            labels of one image would overwrite those of the other.
    """
    ids = [str(file.with_suffix("")) for file in files]
    while True:
        by_id: dict[str, list[int]] = defaultdict(list)
        for i, image_id in enumerate(ids):
            by_id[to_nfc(image_id).casefold()].append(i)
        groups = [group for group in by_id.values() if len(group) > 1]
        if not groups:
            return ids
        # Repeat: an id with its suffix may equal the id of another file (a.png, a.tif, a.png.jpg).
        with_suffix = [(i, str(files[i])) for group in groups for i in group]
        if all(ids[i] == path for i, path in with_suffix):
            first, second = min(sorted(str(files[i]) for i in group)[:2] for group in groups)
            difference = _difference(first, second)
            raise ConfigError(
                f"the images {first!r} and {second!r} differ only in {difference}, "
                "so their labels would overwrite each other on some disks; rename one"
            )
        for i, path in with_suffix:
            ids[i] = path


def _difference(first: str, second: str) -> str:
    """Describe how two file names with the same id differ."""
    if to_nfc(first) == to_nfc(second):
        return "their Unicode normalisation (NFC and NFD)"
    return "upper and lower case"
