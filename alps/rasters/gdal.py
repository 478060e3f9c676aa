"""GDAL through rasterio: its drivers, its settings and its errors.

A file is opened with the driver that matches its first bytes, a URI with that of its suffix. GDAL
does not see sidecar files (``.aux.xml``, ``.msk``, ``.ovr``), because they can make it open
arbitrary files; `alps.rasters.raster.Raster` reads them itself.
"""

from __future__ import annotations

import errno
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning

from alps.errors import ImageError
from alps.rasters import remote

#: GDAL's settings for every read and write. With TRUE instead of EMPTY_DIR, GDAL would still probe
#: some file names.
OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_NUM_THREADS": 1,  # callers read images in parallel
    "GTIFF_IGNORE_READ_ERRORS": "NO",
}
#: Size of GDAL's cache of blocks in a process; GDAL's default is 5 % of the memory.
CACHE_BYTES = 64 << 20
#: First bytes of a file, and the GDAL driver for it.
DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xffO\xffQ": "JP2OpenJPEG",
}
#: Suffixes of rasters, in lower case; compared without regard to case.
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".j2k")
#: Maximum length of a quoted GDAL message.
MAX_REASON = 400
_QUIET = ("ignore", None, NotGeoreferencedWarning, None, 0)


def find_driver(head: bytes) -> str | None:
    """Return the driver for a file that begins with ``head``, or None if it is not a raster."""
    return next((name for magic, name in DRIVERS.items() if head.startswith(magic)), None)


@contextmanager
def gdal_session(path: Path | str) -> Iterator[None]:
    """Apply GDAL's settings in this thread, and convert all exceptions to `ImageError`.

    If the network failed, the cause of the `ImageError` is an `OSError` with the code EIO, as for a
    disk that failed.

    Args:
        path: the file or URI that is read.

    Raises:
        ImageError: the code in the context raised an exception.
    """
    silence_rasterio()
    # Not in OPTIONS: it applies to all threads, and the end of a session in one of them resets it.
    set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)
    is_remote = isinstance(path, str)
    try:
        with rasterio.Env(**OPTIONS, **(remote.default_options() if is_remote else {})):
            yield
    except ImageError:
        raise
    except Exception as error:  # GDAL raises many types on damaged files
        reason = _describe_error(error)
        if isinstance(path, str):
            name = remote.without_query(path)
            reason = reason.replace(remote.to_gdal_name(path), name)
            cause = _remote_cause(reason, error)
            raise ImageError(f"cannot read {name}: {remote.explain_failure(reason)}") from cause
        raise ImageError(f"cannot read {path}: {reason}") from error


def _remote_cause(reason: str, error: Exception) -> Exception:
    """Return an `OSError` if an error in reading a URI concerns the network, else the error."""
    is_gdal_error = isinstance(error, rasterio.errors.RasterioError | rasterio._err.CPLE_BaseError)
    if not (is_gdal_error and remote.is_network_failure(reason)):
        return error
    failure = OSError(errno.EIO, reason)
    failure.__cause__ = error
    return failure


def open_raster(path: Path | str) -> Any:
    """Open a TIFF or JPEG 2000 file or URI for reading, within a `gdal_session`."""
    if isinstance(path, str):
        suffix = remote.without_query(path).lower()[-4:]
        kind = "JP2OpenJPEG" if suffix in (".jp2", ".j2k") else "GTiff"
        return rasterio.open(remote.to_gdal_name(path), driver=kind, sharing=False)
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise ValueError("the file is empty")
    driver = find_driver(head)
    if driver is None:
        raise ValueError("it is neither a TIFF nor a JPEG 2000 file")
    # GDAL cannot mistake an absolute path for a URL or a GDAL dataset name.
    return rasterio.open(os.path.abspath(path), driver=driver, sharing=False)  # noqa: PTH100


def page_size(name: str) -> tuple[int, int] | None:
    """Return (H, W) of a TIFF page, given its GDAL name, or None if it cannot be opened."""
    try:
        with rasterio.open(name, driver="GTiff", sharing=False) as page:
            return page.height, page.width
    except rasterio.errors.RasterioError:
        return None


def silence_rasterio() -> None:
    """Silence rasterio, which logs raised errors and warns of rasters without georeference."""
    if _QUIET not in warnings.filters:  # adding a filter makes Python repeat earlier warnings
        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    logger = logging.getLogger("rasterio")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def _describe_error(error: BaseException) -> str:
    """Return the root cause of a GDAL error as one line, with a remedy if there is one."""
    while isinstance(error, rasterio.errors.RasterioError | rasterio._err.CPLE_BaseError):
        if error.__cause__ is None:
            break
        error = error.__cause__
    text = " ".join((str(error) or type(error).__name__).split())[:MAX_REASON]
    if "missing codec" in text:
        name = "JPEG XL" if "JXL" in text or "50002" in text else "a codec"
        return (
            f"it is compressed with {name}, which the installed GDAL lacks ({text}); "
            "recompress it with another GDAL: gdal_translate -co COMPRESS=DEFLATE in.tif out.tif"
        )
    return text
