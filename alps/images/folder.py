"""A folder of images, of any depth."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from alps.errors import DatasetNotFound, ImageError
from alps.findings import Finding
from alps.images.ids import image_ids
from alps.images.read import SUFFIXES, read_sample
from alps.rasters.sidecars import find_sidecars
from alps.types import ImageRecord, Sample

logger = logging.getLogger(__name__)

#: Device and inode: what a file or folder is, whatever its names.
Place = tuple[int, int]


class Folder:
    """All images under a folder, sorted by path.

    Hidden files and folders are left out. Links are followed, as `walk` says. A file whose name
    cannot be stored (a backslash, a line break, bytes that are not UTF-8, more than the 255 bytes
    that disks allow) is left out with a warning that counts and names such files.

    Args:
        root: the folder.
        name: what the image set is called.
        split: the split all images belong to.
    """

    def __init__(self, root: str, name: str, split: str = "train") -> None:
        self.root = root
        self.name = name
        self.split = split

    def records(self) -> list[ImageRecord]:
        """All images.

        Raises:
            DatasetNotFound: the folder is missing, cannot be listed or holds no image.
            ConfigError: two paths differ in nothing but case.
        """
        root = Path(self.root)
        if not root.is_dir():
            raise DatasetNotFound(
                f"{root.absolute()} is not a folder; give the folder of your images as dataset.root"
            )
        sizes: dict[str, int] = {}
        others: Counter[str] = Counter()
        try:
            for path, entry in walk(root):
                suffix = PurePosixPath(path).suffix.lower()
                if suffix in SUFFIXES:
                    sizes[path] = entry.stat().st_size
                else:
                    others[suffix or "without suffix"] += 1
        except OSError as error:
            raise DatasetNotFound(f"cannot list {root.absolute()}: {error}") from error

        files = sorted(sizes)
        records, refused = [], []
        for path, image_id in zip(files, image_ids([*map(PurePosixPath, files)]), strict=True):
            try:
                path.encode()
                records.append(ImageRecord(image_id, path, self.split, sizes[path]))
            except (ImageError, UnicodeEncodeError):
                refused.append(path)
        if refused:
            logger.warning(
                "%d of %d images under %s are left out: their names have a backslash or a line "
                "break, are not UTF-8, or leave no room for that of a label (first: %a); rename "
                "them",
                len(refused),
                len(files),
                root,
                refused[0],
            )
        if not records:
            kinds = " ".join(suffix for suffix, _ in others.most_common(5))
            raise DatasetNotFound(
                f"no images under {root.absolute()}: found {others.total()} other files"
                f"{f' ({kinds})' if kinds else ''} and {len(refused)} images with names that "
                f"cannot be stored, looked for {' '.join(SUFFIXES)}"
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Decode one image; raises `ImageError` when it cannot be used."""
        return read_sample(self.root, record)

    def findings(self) -> list[Finding]:
        """Return what lies beside the images and is not read."""
        return find_sidecars(path for path, _ in walk(self.root))


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
