"""Read the georeference of a raster, and write it to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from rasterio.control import GroundControlPoint

from alps.rasters.aux_xml import AuxXml
from alps.rasters.world_file import read_world_file
from alps.structures.georeference import Georeference


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


def read_georeference(path: Path | str, file: Any, sidecar: AuxXml) -> Georeference | None:
    """Return the georeference of an open raster.

    As in GDAL, ``.aux.xml`` overrides the file, and a world file is used if both have none.

    Args:
        path: path of the raster, or its URI, which has no sidecar files.
        file: open dataset of rasterio.
        sidecar: its ``.aux.xml``.

    Returns:
        The georeference, or None if it is unknown.
    """
    gcps, gcps_crs = file.gcps
    crs = sidecar.crs or file.crs
    if gcps and sidecar.transform is None:
        points = tuple((p.col, p.row, p.x, p.y, p.z or 0.0) for p in gcps)
        crs = sidecar.crs or gcps_crs
        return Georeference(None if crs is None else crs.to_wkt(), gcps=points)
    transform = sidecar.transform or file.transform
    if transform.is_identity:
        transform = read_world_file(path) if isinstance(path, Path) else None
    if crs is None and transform is None:
        return None
    return Georeference(
        crs=None if crs is None else crs.to_wkt(),
        transform=None if transform is None else tuple(transform)[:6],
    )
