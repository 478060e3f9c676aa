"""Rasters that stay open between windows."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from alps.rasters.raster import Raster
from alps.rasters.remote import is_uri
from alps.rasters.view import View

#: Number of rasters that stay open in each thread.
MAX_OPEN = 4

Key = tuple[tuple[str, ...], View, tuple[str, ...], tuple[int, ...]]


class _Handles(threading.local):
    """Open rasters of one thread, because GDAL's datasets must not be used by several threads."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.rasters: OrderedDict[Key, Raster] = OrderedDict()
        self.inherited: list[OrderedDict[Key, Raster]] = []


_handles = _Handles()


def open_cached(paths: tuple[str, ...], view: View, vrt_roots: Sequence[str]) -> Raster:
    """Open a raster, or return the one that this thread has open.

    Args:
        paths: path or URI of the raster, or of each asset.
        view: its view.
        vrt_roots: folders whose files a VRT may read, besides its own.

    Returns:
        The raster, which the caller must not close.

    Raises:
        ImageError: it cannot be opened.
    """
    if _handles.process != os.getpid():
        # After a fork GDAL's locks may be held by threads that no longer exist, so the rasters of
        # the parent process are neither used nor closed.
        _handles.inherited.append(_handles.rasters)
        _handles.process, _handles.rasters = os.getpid(), OrderedDict()
    rasters = _handles.rasters
    key = paths, view, tuple(vrt_roots), tuple(_changed(path) for path in paths)
    raster = rasters.pop(key, None)
    if raster is None:
        raster = Raster(paths, view, vrt_roots=vrt_roots)
    rasters[key] = raster
    if len(rasters) > MAX_OPEN:
        rasters.popitem(last=False)[1].close()
    return raster


def _changed(path: str) -> int:
    """Return the time of the last change of a local file; 0 if it is unknown."""
    try:
        return 0 if is_uri(path) else Path(path).stat().st_mtime_ns
    except OSError:  # reported when the file is opened
        return 0
