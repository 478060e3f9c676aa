"""List the files of a folder in order, following each symbolic link once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: Device and inode, which identify a file or folder independently of its names.
Inode = tuple[int, int]


def contents(folder: Path) -> str:
    """Return a short description of what a folder contains, for messages."""
    if not folder.is_dir():
        return "no such folder"
    names = sorted(entry.name for entry in folder.iterdir())
    return f"{len(names)} entries ({', '.join(names[:5])})" if names else "an empty folder"


def walk(folder: str | Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files below a folder in name order, with their paths relative to it.

    Hidden files are skipped. Symbolic links are followed, so a folder with two links to it is
    listed twice. Each link is followed only once, where it is first encountered, and never if it
    leads to a parent folder. Links in circles therefore do not cause endless listings.

    Raises:
        OSError: a folder cannot be listed.
    """
    # For each folder: its path, relative prefix, the link that led to it, and its parent folders.
    stack: list[tuple[str, str, Inode | None, tuple[Inode, ...]]] = []
    stack.append((os.fspath(folder), "", None, ()))
    followed: set[Inode] = set()
    while stack:
        path, prefix, link, parents = stack.pop()
        inode = _inode(os.stat(path))  # noqa: PTH116 - the entries are os.scandir's
        if inode in parents or link in followed:
            continue
        if link:
            followed.add(link)
        with os.scandir(path) as entries:
            sorted_entries = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in sorted_entries:
            if entry.name.startswith("."):
                continue
            try:
                is_dir, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                continue
            if is_dir:
                link_inode = (
                    _inode(entry.stat(follow_symlinks=False)) if entry.is_symlink() else None
                )
                folders.append(
                    (entry.path, f"{prefix}{entry.name}/", link_inode, (*parents, inode))
                )
            elif is_file:
                yield f"{prefix}{entry.name}", entry
        stack += reversed(folders)


def _inode(status: os.stat_result) -> Inode:
    """Return device and inode."""
    return status.st_dev, status.st_ino
