"""Georeference of rasters."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio

logger = logging.getLogger(__name__)

#: Bytes of a world file to read; it has six numbers.
MAX_WORLD_FILE_BYTES = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Georeference:
    """The georeference of a raster.

    Args:
        crs: rasterio's coordinate reference system; None: unknown.
        transform: affine transform from pixels to coordinates; None: unknown, or given by ``gcps``.
        gcps: rasterio's ground control points.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()

    def to_profile(self) -> dict[str, Any]:
        """Return the options of `rasterio.open` for a new file with this georeference."""
        if self.gcps:
            return {"gcps": self.gcps, "crs": self.crs}
        return {"crs": self.crs, "transform": self.transform}


def read_georeference(path: Path, file: Any) -> Georeference | None:
    """Return the georeference of an open raster, or of the world file of a TIFF.

    Args:
        path: path of the raster; its world file has the suffix ``.tfw``.
        file: open dataset of rasterio.

    Returns:
        The georeference, or None if it is unknown.
    """
    gcps, crs = file.gcps
    if gcps:
        return Georeference(crs, gcps=tuple(gcps))
    transform = None if file.transform.is_identity else file.transform
    if transform is None and file.driver == "GTiff":
        transform = _read_world_file(path.with_suffix(".tfw"))
    return None if file.crs is None and transform is None else Georeference(file.crs, transform)


def _read_world_file(path: Path) -> Any:
    """Return the transform of a world file, moved from the pixel centre to the pixel corner."""
    try:
        with path.open("rb") as file:
            a, d, b, e, c, f = map(float, file.read(MAX_WORLD_FILE_BYTES).split()[:6])
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s is not a valid world file (%s) and is ignored", path, error)
        return None
    return rasterio.Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
