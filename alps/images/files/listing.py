"""What a folder holds: its files, in order, with links followed once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: Device and inode: what a file or folder is, whatever its names.
Place = tuple[int, int]


def contents(folder: Path) -> str:
    """What a folder holds, in words, for messages."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return f"{len(names)} entries ({', '.join(names[:5])})" if names else "an empty folder"


def walk(folder: str | Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files below a folder with their path from there, in the order of their names.

    Hidden ones are left out. Links are followed, so what two of them lead to has two names. But one
    and the same link is followed once, under the first name of the folder it lies in, and never
    into a folder above it: there are no more names than files times links, however they cross.

    Raises:
        OSError: a folder cannot be listed.
    """
    # Of each folder: its path, that from here, the link it was reached by, the folders on the way.
    pending: list[tuple[str, str, Place | None, tuple[Place, ...]]] = []
    pending.append((os.fspath(folder), "", None, ()))
    followed: set[Place] = set()
    while pending:
        path, prefix, link, above = pending.pop()
        place = _place(os.stat(path))  # noqa: PTH116 - the entries are os.scandir's
        if place in above or link in followed:
            continue
        if link:
            followed.add(link)
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in listed:
            if entry.name.startswith("."):
                continue
            try:
                is_dir, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                continue
            if is_dir:
                by = _place(entry.stat(follow_symlinks=False)) if entry.is_symlink() else None
                folders.append((entry.path, f"{prefix}{entry.name}/", by, (*above, place)))
            elif is_file:
                yield f"{prefix}{entry.name}", entry
        pending += reversed(folders)


def _place(status: os.stat_result) -> Place:
    return status.st_dev, status.st_ino
