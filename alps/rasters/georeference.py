"""Read the georeference of a raster, and write it to another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import rasterio
from rasterio.control import GroundControlPoint

from alps.structures.georeference import Georeference

logger = logging.getLogger(__name__)

#: Bytes of a world file to read; it has six numbers.
MAX_WORLD_FILE_BYTES = 1024


def to_profile(georeference: Georeference) -> dict[str, Any]:
    """Return the options of `rasterio.open` for a new file with this georeference."""
    crs = None if georeference.crs is None else rasterio.CRS.from_wkt(georeference.crs)
    if georeference.gcps:
        gcps = [
            GroundControlPoint(row=row, col=column, x=x, y=y, z=z)
            for column, row, x, y, z in georeference.gcps
        ]
        return {"gcps": gcps, "crs": crs}
    transform = georeference.transform
    return {"crs": crs, "transform": None if transform is None else rasterio.Affine(*transform)}


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
        points = tuple((p.col, p.row, p.x, p.y, p.z or 0.0) for p in gcps)
        return Georeference(None if crs is None else crs.to_wkt(), gcps=points)
    transform = None if file.transform.is_identity else file.transform
    if transform is None and file.driver == "GTiff":
        transform = _read_world_file(path.with_suffix(".tfw"))
    if file.crs is None and transform is None:
        return None
    return Georeference(
        crs=None if file.crs is None else file.crs.to_wkt(),
        transform=None if transform is None else tuple(transform)[:6],
    )


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
