"""sha256 of image files, and of the windows of rasters."""

from __future__ import annotations

import hashlib
import stat
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from alps.errors import ImageError
from alps.protocols import ImageSet
from alps.store.manifest import sha256
from alps.structures.records import ImageRecord

#: Number of cached hashes; the frames of a video and the slices of a volume have one file.
CACHE_SIZE = 4


def hash_image(image_set: ImageSet, record: ImageRecord) -> str | None:
    """Return the sha256 of the file of an image, or of the pixels of a window.

    Args:
        image_set: the images.
        record: the image.

    Returns:
        The hash, or None if there is no such file or it cannot be read.
    """
    if record.window is None:
        return hash_file(image_set.root, record)
    try:
        sample = image_set.read(record)
    except ImageError:
        return None
    return hash_pixels(sample.image, sample.valid)


def hash_file(root: str | Path, record: ImageRecord) -> str | None:
    """Return the sha256 of the file that holds an image, or None if there is no such file.

    Args:
        root: folder of the image set.
        record: the image.
    """
    path = Path(root, record.file_name)
    try:
        status = path.stat()
        is_file = stat.S_ISREG(status.st_mode)
        return _sha256(path, status.st_size, status.st_mtime_ns) if is_file else None
    except OSError:
        return None


def hash_pixels(image: UInt8[np.ndarray, "H W 3"], valid: Bool[np.ndarray, "H W"] | None) -> str:
    """Return the sha256 of the pixels of a window.

    Args:
        image: RGB.
        valid: pixels that have data; None: all.
    """
    digest = hashlib.sha256(np.ascontiguousarray(image).data)
    if valid is not None:
        digest.update(np.packbits(valid).tobytes())
    return digest.hexdigest()


@lru_cache(CACHE_SIZE)
def _sha256(path: Path, size: int, time: int) -> str:  # noqa: ARG001 - a changed file misses the cache
    return sha256(path)
