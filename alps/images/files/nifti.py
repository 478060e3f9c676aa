"""Read slices of NIfTI volumes (CT, MRI) as images, through nibabel.

Volumes are reoriented by their affine to nibabel's "closest canonical" orientation (RAS): the axes
point to the patient's right, front and head. Slices are taken along the last axis and returned in
the radiological convention: front at the top, the patient's right side at the left.
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

#: Suffixes of volumes, compared case-insensitively.
SUFFIXES = (".nii", ".nii.gz")
#: Number of volumes kept open: an image and its labels. Compressed volumes are kept in memory.
MAX_OPEN = 2
#: Maximum number of evenly spaced voxels that determine the window; 64 MB as float32.
MAX_SAMPLE = 2**24


def is_volume(path: str | Path) -> bool:
    """Return whether a file name has the suffix of a NIfTI volume."""
    return Path(path).name.lower().endswith(SUFFIXES)


def count_slices(path: Path) -> int:
    """Return the number of slices of a volume.

    Voxels are not read, unless the file seems to be truncated.

    Raises:
        ImageError: the file is not a volume, or is truncated.
        MissingPackage: nibabel is not installed.
    """
    return Volume(path).shape[2]


def read_slice(path: Path, index: int) -> Pixels:
    """Read one slice as 8-bit gray in RGB; slices are counted from 0 at the feet.

    The percentiles `alps.rasters.stretch.STRETCH` of the volume map to 0 and 255, so that all its
    slices have the same window. Non-finite voxels become 0 and are not valid.

    Returns:
        The slice and its valid mask.

    Raises:
        ImageError: the file cannot be read, or has no such slice.
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
        raise ImageError(_describe_error(path, error)) from error
    return Pixels(np.repeat(gray[..., None], 3, axis=2), none_if_all(valid))


def read_label_slice(path: Path, index: int, image: Path) -> Labels:
    """Read the class numbers of one slice.

    Args:
        path: the label volume.
        index: index of the slice, from 0.
        image: the image volume that the labels belong to.

    Returns:
        Class numbers, (H, W).

    Raises:
        LabelError: the file cannot be read, its shape differs from the image's, or a value is not a
            class number.
        MissingPackage: nibabel is not installed.
    """
    try:
        volume = _open(path, os.getpid())
        if volume.shape != (expected := _open(image, os.getpid()).shape):
            raise LabelError(
                f"{path} has the shape {volume.shape} and its image {expected}, expected the same; "
                "use the published files"
            )
        plane = volume.plane(index)
    except ImageError as error:
        raise LabelError(str(error)) from error
    except (OSError, EOFError, MemoryError, ValueError, zlib.error) as error:  # raised by decoders
        raise LabelError(_describe_error(path, error)) from error
    numbers = np.rint(np.nan_to_num(plane, nan=-1)).clip(-1, 256)
    if (numbers != plane).any() or numbers.min() < 0 or numbers.max() > 255:
        invalid = plane[(numbers != plane) | (numbers < 0) | (numbers > 255)][0]
        raise LabelError(
            f"{path} contains {invalid:g} in slice {index}, expected class numbers from 0 to 255; "
            "use the published file"
        )
    labels: UInt8[np.ndarray, "H W"] = numbers.astype(np.uint8)
    return labels


class Volume:
    """An open NIfTI file; the header is read immediately, the voxels on demand.

    Raises:
        ImageError: the file is not a volume that can be sliced.
        MissingPackage: nibabel is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import nibabel
        except ImportError as error:
            raise MissingPackage(
                f"{path} is a NIfTI volume; reading it needs nibabel, which is not installed: "
                "pip install nibabel"
            ) from error
        self.path = path
        try:
            image: Any = nibabel.load(path)
            # The orientation has a NaN if the affine maps no voxel axis to one of its axes.
            orientation = np.array(_orientations().io_orientation(image.affine))
        except Exception as error:  # nibabel may raise anything for a damaged header
            raise ImageError(_describe_error(path, error)) from error
        self._image = image
        self._dtype = np.dtype(image.get_data_dtype())
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        self._stored_shape = shape
        if len(shape) != 3 or min(shape) < 1:
            raise ImageError(
                f"{path} has the shape {image.shape}, expected one volume with three axes; "
                "write each time step or channel into a separate file (as fslsplit does)"
            )
        if self._dtype.kind not in "iuf":
            raise ImageError(
                f"{path} contains {self._dtype}, expected integers or floating-point numbers"
            )
        if np.isnan(orientation).any():
            raise ImageError(f"{path} has an affine that does not determine all axes; correct it")
        self._orientation = orientation
        self.shape: tuple[int, int, int] = self._canonical(np.broadcast_to(0, shape)).shape
        if self.shape[0] * self.shape[1] > MAX_PIXELS:
            raise ImageError(f"{path} has slices of {self.shape[:2]}, the limit is {MAX_PIXELS} px")
        self._zipped = path.name.lower().endswith(".gz")
        self._length: int = image.dataobj.offset + math.prod(shape) * self._dtype.itemsize  # bytes
        if image.dataobj.offset < 0:
            raise ImageError(f"{path} declares a negative voxel offset; download it again")
        if not self._is_complete():
            raise ImageError(
                f"cannot read {path}: it is truncated: its header declares {math.prod(shape)} "
                f"voxels of {self._dtype}; download it again"
            )

    def _is_complete(self) -> bool:
        """Return whether the file contains all voxels; an interrupted download does not."""
        size = self.path.stat().st_size
        if not self._zipped:
            return size >= self._length
        with self.path.open("rb") as file:  # gzip ends with the uncompressed length modulo 2^32
            file.seek(-min(4, size), os.SEEK_END)
            word = int.from_bytes(file.read(), "little")
        # The lengths also differ in multi-member files, and if data follow the voxels.
        return word == self._length % 2**32 or self._unzips()

    def _unzips(self) -> bool:
        """Return whether the file decompresses to at least the expected number of bytes."""
        missing: int = self._length
        with gzip.open(self.path) as file:
            try:
                while part := file.read(1 << 24):
                    missing -= len(part)
            except (OSError, EOFError, zlib.error):
                return False
        return missing <= 0

    def plane(self, index: int) -> Shaped[np.ndarray, "H W"]:
        """Return one slice as scaled float32 or float64 values, front up and right on the left."""
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
        """Stored, unscaled voxels: a view into the file, or an array if the file is compressed."""
        proxy = self._image.dataobj
        if not self._zipped:
            return self._canonical(proxy.get_unscaled().reshape(self._stored_shape, order="F"))
        with gzip.open(self.path) as file:
            data = file.read(self._length)
            while file.read(1 << 20):  # read to the end, where gzip verifies the checksum
                pass
        if len(data) < self._length:
            raise EOFError("it is truncated")
        stored: np.ndarray = np.ndarray(
            self._stored_shape, self._dtype, buffer=data, offset=proxy.offset, order="F"
        )
        return self._canonical(stored)

    def _canonical(self, array: np.ndarray) -> np.ndarray:
        """Return an array reoriented to the canonical axes."""
        turned: np.ndarray = _orientations().apply_orientation(array, self._orientation)
        return turned


def _orientations() -> Any:
    from nibabel import orientations  # untyped, hence Any

    return orientations


@lru_cache(maxsize=MAX_OPEN)
def _open(path: Path, process: int) -> Volume:  # noqa: ARG001 - part of the cache key
    """Return a cached volume."""
    return Volume(path)


@lru_cache(maxsize=4096)
def _window(path: Path) -> tuple[float, float]:
    """Return the values of a volume that map to 0 and 255."""
    volume = _open(path, os.getpid())
    step = -(-math.prod(volume.shape) // MAX_SAMPLE)
    planes = (volume.plane(i).ravel()[::step] for i in range(volume.shape[2]))
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    return stretch_limits(values)


def _describe_error(path: Path, error: Exception) -> str:
    """Return the message for a file that cannot be decoded."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"cannot read {path}: {reason}; expected a NIfTI volume; download it again"
