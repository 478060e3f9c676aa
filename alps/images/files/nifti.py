"""Slices of NIfTI volumes as images: CT, MRI; through nibabel.

Volumes are turned by their affine so that the axes run to the patient's right, front and head
(nibabel's "closest canonical", RAS), and cut across the last one. A slice is shown as radiologists
look at it: the front above, the patient's right on the left.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from alps.errors import ImageError, LabelError, MissingPackage
from alps.images.files.labels import Labels
from alps.rasters.limits import MAX_PIXELS
from alps.rasters.pixels import Pixels, none_if_all
from alps.rasters.stretch import stretch_between, stretch_limits

#: File names with these endings, in any case, are volumes.
SUFFIXES = (".nii", ".nii.gz")
#: Volumes kept open: an image and its labels. What is compressed lies in memory, once decompressed.
OPEN = 2
#: The window is found from so many voxels at most, evenly spread; float32 makes 64 MB of them.
SAMPLE = 2**24


def is_volume(path: str | Path) -> bool:
    """Whether a file is called like a NIfTI volume."""
    return Path(path).name.lower().endswith(SUFFIXES)


def count_slices(path: Path) -> int:
    """How many slices a volume has; its voxels are not read, unless they seem to be missing.

    Raises:
        ImageError: it is no volume, or cut short.
        MissingPackage: nibabel is not installed.
    """
    return Volume(path).shape[2]


def read_slice(path: Path, index: int) -> Pixels:
    """Read one slice, counted from the feet; voxels that are no number are not valid.

    The values between the percentiles `alps.rasters.stretch.STRETCH` of the whole volume become
    0 to 255, so that all slices of a volume have one window; voxels that are no number become 0.

    Raises:
        ImageError: the file cannot be used, or has no such slice.
        MissingPackage: nibabel is not installed.
    """
    try:
        plane = _open(path, os.getpid()).plane(index)
        valid = np.isfinite(plane)
        gray = stretch_between(plane[None].copy(), valid, *_window(path))[0]
    except (
        OSError,
        EOFError,
        MemoryError,
        ValueError,
        zlib.error,
    ) as error:  # decoders raise these
        raise _unreadable(path, error) from error
    return Pixels(np.repeat(gray[..., None], 3, axis=2), none_if_all(valid))


def read_label_slice(path: Path, index: int, image: Path) -> Labels:
    """The class numbers of one slice.

    Args:
        path: a volume of labels.
        index: of the slice.
        image: the volume they are of.

    Raises:
        LabelError: the file cannot be used, has another shape, or holds what is no class number.
        MissingPackage: nibabel is not installed.
    """
    try:
        volume = _open(path, os.getpid())
        if volume.shape != (expected := _open(image, os.getpid()).shape):
            raise LabelError(
                f"{path} has the shape {volume.shape} and its image {expected}, expected the same; "
                "get both as they were published"
            )
        plane = volume.plane(index)
    except ImageError as error:
        raise LabelError(str(error)) from error
    except (OSError, EOFError, MemoryError, ValueError, zlib.error) as error:  # as above
        raise LabelError(str(_unreadable(path, error))) from error
    numbers = np.rint(np.nan_to_num(plane, nan=-1)).clip(-1, 256)
    if (numbers != plane).any() or numbers.min() < 0 or numbers.max() > 255:
        wrong = plane[(numbers != plane) | (numbers < 0) | (numbers > 255)][0]
        raise LabelError(
            f"{path} holds {wrong:g} in slice {index}, expected class numbers from 0 to 255; get "
            "the file as it was published"
        )
    labels: UInt8[np.ndarray, "H W"] = numbers.astype(np.uint8)
    return labels


class Volume:
    """One file, opened: its header is read, its voxels when they are needed.

    Raises:
        ImageError: it is no volume that can be cut into slices.
        MissingPackage: nibabel is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import nibabel
        except ImportError as error:
            raise MissingPackage(
                f"{path} is a NIfTI volume, which nibabel reads, and that is not installed: "
                "pip install nibabel"
            ) from error
        self.path = path
        try:
            image: Any = nibabel.load(path)
            # Where the header's affine turns nothing into an axis, the orientation has a NaN.
            turn = np.array(_orientations().io_orientation(image.affine))
        except Exception as error:  # a damaged header raises anything
            raise _unreadable(path, error) from error
        self._image = image
        self._dtype = np.dtype(image.get_data_dtype())
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        self._stored = shape
        if len(shape) != 3 or min(shape) < 1:
            raise ImageError(
                f"{path} has the shape {image.shape}, expected one volume with three axes; "
                "write each time or channel into a file of its own (fslsplit does)"
            )
        if self._dtype.kind not in "iuf":
            raise ImageError(f"{path} holds {self._dtype}, expected whole or floating numbers")
        if np.isnan(turn).any():
            raise ImageError(f"{path} has an affine that leaves the axes open; set it anew")
        self._turn = turn
        self.shape: tuple[int, int, int] = self._canonical(np.broadcast_to(0, shape)).shape
        if self.shape[0] * self.shape[1] > MAX_PIXELS:
            raise ImageError(f"{path} has slices of {self.shape[:2]}, the limit is {MAX_PIXELS} px")
        self._zipped = path.name.lower().endswith(".gz")
        self._length: int = image.dataobj.offset + math.prod(shape) * self._dtype.itemsize  # bytes
        if image.dataobj.offset < 0:
            raise ImageError(f"{path} has voxels before its first byte; get it again")
        if not self._is_whole():
            raise ImageError(
                f"cannot read {path}: it is cut short, its header promises {math.prod(shape)} "
                f"voxels of {self._dtype}; get it again"
            )

    def _is_whole(self) -> bool:
        """Whether no voxels are missing at the end, as after a broken download."""
        size = self.path.stat().st_size
        if not self._zipped:
            return size >= self._length
        with self.path.open("rb") as file:  # gzip's last word: the length unzipped, modulo 2^32
            file.seek(-min(4, size), os.SEEK_END)
            word = int.from_bytes(file.read(), "little")
        # It is another in a file of several parts, and where something follows the voxels.
        return word == self._length % 2**32 or self._unzips()

    def _unzips(self) -> bool:
        """Whether all bytes really come out."""
        missing: int = self._length
        with gzip.open(self.path) as file:
            try:
                while part := file.read(1 << 24):
                    missing -= len(part)
            except (OSError, EOFError, zlib.error):
                return False
        return missing <= 0

    def plane(self, index: int) -> Shaped[np.ndarray, "H W"]:
        """The values of one slice, front above and right on the left, as float32 or float64."""
        if not 0 <= index < self.shape[2]:
            raise ImageError(
                f"{self.path} has {self.shape[2]} slices; there is no slice {index} (from 0)"
            )
        proxy = self._image.dataobj
        values = self._voxels[:, :, index].T[::-1, ::-1]
        number = np.promote_types(values.dtype, np.float32)
        return np.asarray(values * number.type(proxy.slope) + number.type(proxy.inter), number)

    @cached_property
    def _voxels(self) -> Shaped[np.ndarray, "X Y Z"]:
        """As stored, not yet scaled: a view into the file or, if that is compressed, in memory."""
        proxy = self._image.dataobj
        if not self._zipped:
            return self._canonical(proxy.get_unscaled().reshape(self._stored, order="F"))
        with gzip.open(self.path) as file:
            data = file.read(self._length)
            while file.read(1 << 20):  # to the end, where the checksum is compared
                pass
        if len(data) < self._length:
            raise EOFError("it is cut short")
        stored: np.ndarray = np.ndarray(
            self._stored, self._dtype, buffer=data, offset=proxy.offset, order="F"
        )
        return self._canonical(stored)

    def _canonical(self, array: np.ndarray) -> np.ndarray:
        turned: np.ndarray = _orientations().apply_orientation(array, self._turn)
        return turned


def _orientations() -> Any:
    from nibabel import orientations  # not annotated: hence Any

    return orientations


@lru_cache(maxsize=OPEN)
def _open(path: Path, process: int) -> Volume:  # noqa: ARG001 - a part of the cache's key
    return Volume(path)


@lru_cache(maxsize=4096)
def _window(path: Path) -> tuple[float, float]:
    """What becomes 0 and 255 in a volume."""
    volume = _open(path, os.getpid())
    step = -(-math.prod(volume.shape) // SAMPLE)
    planes = (volume.plane(i).ravel()[::step] for i in range(volume.shape[2]))
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    return stretch_limits(values)


def _unreadable(path: Path, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"cannot read {path}: {reason}; expected a NIfTI volume, get it again")
