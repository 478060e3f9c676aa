"""A folder of NIfTI volumes, of any depth, slice by slice."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from alps.errors import DatasetNotFound, ImageError
from alps.images.files.ids import image_ids
from alps.images.files.listing import contents, walk
from alps.images.files.nifti import SUFFIXES, count_slices, is_volume, read_slice
from alps.structures.records import ImageRecord, Sample

logger = logging.getLogger(__name__)


class Volumes:
    """All slices of all volumes under a folder; ids are ``<volume>/<slice>`` with four digits.

    A volume is a video whose frames are its slices, from the feet to the head.

    Args:
        root: the folder.
        name: what the image set is called.
        split: the split all slices belong to.
    """

    def __init__(self, *, root: str, name: str = "nifti", split: str = "train") -> None:
        self.root = root
        self.name = name
        self.split = split

    def records(self) -> list[ImageRecord]:
        """All slices; of a volume that cannot be used the first one, to fail.

        Raises:
            DatasetNotFound: there is no volume.
            ConfigError: two paths differ in nothing but case.
            MissingPackage: nibabel is not installed.
        """
        root = Path(self.root)
        paths = sorted(p for p, _ in walk(root) if is_volume(p)) if root.is_dir() else []
        if not paths:
            raise DatasetNotFound(
                f"no volume under {root.absolute()}: found {contents(root)}, looked at any depth "
                f"for {' and '.join(SUFFIXES)}; give the folder of your volumes as dataset.root"
            )
        # One suffix is taken off; where a volume is there with and without .gz, both keep theirs.
        plain = [re.sub(r"\.nii\.gz$", ".gz", path, flags=re.IGNORECASE) for path in paths]
        volumes = zip(image_ids([*map(PurePosixPath, plain)]), paths, strict=True)
        return [
            record
            for volume, path in volumes
            for record in slice_records(root, path, volume, self.split)
        ]

    def read(self, record: ImageRecord) -> Sample:
        """Decode one slice.

        Raises:
            ImageError: it cannot be used.
            MissingPackage: nibabel is not installed.
        """
        return read_slice_sample(self.root, record)


def read_slice_sample(root: str, record: ImageRecord) -> Sample:
    """A slice of `slice_records`.

    Raises:
        ImageError: it cannot be used.
        MissingPackage: nibabel is not installed.
    """
    path = Path(root, record.file_name)
    pixels = read_slice(path, record.frame_index or 0)
    return Sample(record.image_id, pixels.image, valid=pixels.valid)


def slice_records(root: Path, path: str, volume: str, split: str) -> Iterator[ImageRecord]:
    """The slices of a volume; of one that cannot be used the first, to fail when it is read.

    Args:
        root: what ``path`` is relative to.
        path: of the file.
        volume: what it is called.
        split: it belongs to.
    """
    try:
        n = count_slices(root / path)
    except ImageError:
        n = 1
    size = (root / path).stat().st_size
    for i in range(n):
        yield ImageRecord(f"{volume}/{i:04d}", path, split, size, volume, i)
