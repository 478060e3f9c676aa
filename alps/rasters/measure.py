"""Measure lengths and areas of a raster in metres."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float64

from alps.errors import ConfigError
from alps.rasters.packages import import_geo
from alps.structures.georeference import Coefficients, Georeference


def metres_per_unit(crs: str | None) -> float | None:
    """Return the length of a unit of a projected CRS in metres.

    Args:
        crs: the coordinate reference system as WKT; None: unknown.

    Returns:
        The length; None for a geographic or unknown CRS.
    """
    if crs is None or _parse(crs).is_geographic:
        return None
    return float(_parse(crs).axis_info[0].unit_conversion_factor)


def pixel_size(georeference: Georeference, size: tuple[int, int]) -> float | None:
    """Return the side of a square pixel with the area of the raster's central pixel, in metres.

    Args:
        georeference: the georeference of the raster.
        size: (H, W) of the raster, px.

    Returns:
        The side; None if the CRS or the transform is unknown.
    """
    if georeference.crs is None or georeference.transform is None:
        return None
    row, column = size[0] // 2, size[1] // 2
    square = import_geo("shapely").box(column, row, column + 1, row + 1)
    return math.sqrt(float(areas(np.array([square], object), georeference)[0]))


def areas(polygons: np.ndarray, georeference: Georeference) -> Float64[np.ndarray, " N"]:
    """Return areas in m²: on the ellipsoid for a geographic CRS, else in the plane of the CRS.

    Args:
        polygons: N polygons or multipolygons of shapely, in pixels of the raster.
        georeference: the georeference of the raster, with a transform.

    Returns:
        The areas; NaN if the CRS is unknown.

    Raises:
        ConfigError: there is no affine transform, or the CRS has no ellipsoid.
    """
    if georeference.crs is None:
        return np.full(len(polygons), np.nan)
    transform, shapely = require_transform(georeference), import_geo("shapely")
    unit = metres_per_unit(georeference.crs)
    if unit is not None:
        a, b, _, d, e, _ = transform
        pixels: Float64[np.ndarray, " N"] = shapely.area(polygons)  # exact for whole pixels
        return pixels * abs(a * e - b * d) * unit**2
    crs = _parse(georeference.crs)
    degrees = math.degrees(crs.axis_info[0].unit_conversion_factor)
    geod = crs.get_geod()
    if geod is None:
        raise ConfigError(f"no area can be computed: the CRS has no ellipsoid ({georeference.crs})")
    # The edges of pixels are not geodesics, so each pixel's edge becomes one of its own.
    fine = place(shapely.segmentize(polygons, 1.0), transform)
    fine = shapely.transform(fine, lambda points: points * degrees)
    return np.array([abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in fine], float)


def place(geometries: np.ndarray, transform: Coefficients) -> np.ndarray:
    """Convert geometries of shapely from pixels to coordinates."""
    a, b, c, d, e, f = transform

    def to_coordinates(points: Float64[np.ndarray, "P 2"]) -> Float64[np.ndarray, "P 2"]:
        x, y = points.T
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    placed: np.ndarray = import_geo("shapely").transform(geometries, to_coordinates)
    return placed


def to_pixels(geometries: np.ndarray, transform: Coefficients) -> np.ndarray:
    """Convert geometries of shapely from coordinates to pixels; the inverse of `place`."""
    a, b, c, d, e, f = transform
    inverse = np.linalg.inv([[a, b], [d, e]])

    def to_pixel(points: Float64[np.ndarray, "P 2"]) -> Float64[np.ndarray, "P 2"]:
        return (points - (c, f)) @ inverse.T

    pixels: np.ndarray = import_geo("shapely").transform(geometries, to_pixel)
    return pixels


def require_transform(georeference: Georeference) -> Coefficients:
    """Return the affine transform; raise `ConfigError` if there is none."""
    if georeference.transform is None:
        raise ConfigError(
            "the raster has ground control points or no transform, expected an affine transform; "
            "warp it to a grid first: gdalwarp in.tif out.tif"
        )
    return georeference.transform


@lru_cache(maxsize=64)
def _parse(crs: str) -> Any:
    return import_geo("pyproj").CRS.from_wkt(crs)
