"""Read a folder of NIfTI volumes, at any depth, slice by slice."""

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
    """All slices of all volumes under a folder, from the feet to the head.

    Image ids are ``<volume>/<slice>``, the slice with four digits. A volume is treated as a video
    whose frames are the slices.

    Args:
        root: the folder.
        name: name of the image set.
        split: split of all slices.
    """

    def __init__(self, *, root: str, name: str = "nifti", split: str = "train") -> None:
        self.root = root
        self.name = name
        self.split = split

    def records(self) -> list[ImageRecord]:
        """Return all slices.

        A damaged volume is listed with one slice; `read` raises the error.

        Raises:
            DatasetNotFound: there is no volume.
            ConfigError: two paths differ only in case or Unicode normalisation.
            MissingPackage: nibabel is not installed.
        """
        root = Path(self.root)
        paths = sorted(p for p, _ in walk(root) if is_volume(p)) if root.is_dir() else []
        if not paths:
            raise DatasetNotFound(
                f"no volume under {root.absolute()}: found {contents(root)}, looked at any depth "
                f"for {' and '.join(SUFFIXES)}; set dataset.root to the folder of your volumes"
            )
        # image_ids removes only one suffix. If x.nii and x.nii.gz exist, both ids keep the suffix.
        plain = [re.sub(r"\.nii\.gz$", ".gz", path, flags=re.IGNORECASE) for path in paths]
        volumes = zip(image_ids([*map(PurePosixPath, plain)]), paths, strict=True)
        return [
            record
            for volume, path in volumes
            for record in slice_records(root, path, volume, self.split)
        ]

    def read(self, record: ImageRecord) -> Sample:
        """Read one slice.

        Returns:
            The slice with its valid mask.

        Raises:
            ImageError: the volume cannot be read.
            MissingPackage: nibabel is not installed.
        """
        return read_slice_sample(self.root, record)


def read_slice_sample(root: str, record: ImageRecord) -> Sample:
    """Read a slice listed by `slice_records`.

    Returns:
        The slice with its valid mask.

    Raises:
        ImageError: the volume cannot be read.
        MissingPackage: nibabel is not installed.
    """
    path = Path(root, record.file_name)
    pixels = read_slice(path, record.frame_index or 0)
    return Sample(record.image_id, pixels.image, valid=pixels.valid)


def slice_records(root: Path, path: str, volume: str, split: str) -> Iterator[ImageRecord]:
    """List the slices of a volume.

    Args:
        root: folder that ``path`` is relative to.
        path: volume file.
        volume: name of the volume.
        split: split of the volume.

    Yields:
        The slices; a single slice for a damaged volume, whose error is raised when it is read.
    """
    try:
        n = count_slices(root / path)
    except ImageError:
        n = 1
    size = (root / path).stat().st_size
    for i in range(n):
        yield ImageRecord(f"{volume}/{i:04d}", path, split, size, volume, i)
