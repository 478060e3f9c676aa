"""Read all images of a folder, at any depth."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path, PurePosixPath

from alps.errors import DatasetNotFound, ImageError
from alps.images.files.ids import image_ids
from alps.images.files.listing import walk
from alps.images.files.read import SUFFIXES, read_sample
from alps.rasters.sidecars import find_sidecars
from alps.structures.findings import Finding
from alps.structures.records import ImageRecord, Sample

logger = logging.getLogger(__name__)


class Folder:
    """All images under a folder, sorted by path.

    Hidden files and folders are skipped. Symbolic links are followed, each once (see `walk`). A
    file whose name cannot be stored (a backslash, a line break, bytes that are not UTF-8, too
    long for the name of its label file) is skipped; a warning states the number of such files and
    the first name.

    Args:
        root: the folder.
        name: name of the image set.
        split: split of all images.
    """

    def __init__(self, root: str, name: str, split: str = "train") -> None:
        self.root = root
        self.name = name
        self.split = split

    def records(self) -> list[ImageRecord]:
        """Return all images.

        Raises:
            DatasetNotFound: the folder is missing, cannot be listed or contains no image.
            ConfigError: two paths differ only in case or Unicode normalisation.
        """
        root = Path(self.root)
        if not root.is_dir():
            raise DatasetNotFound(
                f"{root.absolute()} is not a folder; set dataset.root to the folder of your images"
            )
        sizes: dict[str, int] = {}
        other_suffixes: Counter[str] = Counter()
        try:
            for path, entry in walk(root):
                suffix = PurePosixPath(path).suffix.lower()
                if suffix in SUFFIXES:
                    sizes[path] = entry.stat().st_size
                else:
                    other_suffixes[suffix or "without suffix"] += 1
        except OSError as error:
            raise DatasetNotFound(f"cannot list {root.absolute()}: {error}") from error

        files = sorted(sizes)
        records, unstorable = [], []
        for path, image_id in zip(files, image_ids([*map(PurePosixPath, files)]), strict=True):
            try:
                path.encode()
                records.append(ImageRecord(image_id, path, self.split, sizes[path]))
            except (ImageError, UnicodeEncodeError):
                unstorable.append(path)
        if unstorable:
            logger.warning(
                "%d of %d images under %s are skipped: their names contain a backslash or a line "
                "break, are not UTF-8, or are too long for the name of the label file (first: "
                "%a); rename them",
                len(unstorable),
                len(files),
                root,
                unstorable[0],
            )
        if not records:
            kinds = " ".join(suffix for suffix, _ in other_suffixes.most_common(5))
            raise DatasetNotFound(
                f"no images under {root.absolute()}: found {other_suffixes.total()} other files"
                f"{f' ({kinds})' if kinds else ''} and {len(unstorable)} images with names that "
                f"cannot be stored, looked for {' '.join(SUFFIXES)}"
            )
        return records

    def read(self, record: ImageRecord) -> Sample:
        """Read one image; raise `ImageError` if it cannot be read."""
        return read_sample(self.root, record)

    def findings(self) -> list[Finding]:
        """Return a finding if images have sidecar files, because these are not read."""
        return find_sidecars(path for path, _ in walk(self.root))
