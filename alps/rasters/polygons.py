"""Convert index maps and masks to polygons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Float64, Int64
from rasterio.features import shapes

from alps.rasters.gdal import gdal_session, open_raster
from alps.rasters.measure import areas, pixel_size, place, require_transform, to_pixels
from alps.rasters.packages import import_geo
from alps.rasters.raster import Raster
from alps.structures import rle
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.tiles import Tile


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """N polygons in the coordinates of a raster.

    Args:
        geometry: polygons or multipolygons of shapely; an empty mask has an empty polygon.
        value: class of each region, or index of each mask.
        area_m2: areas in m²; NaN if the CRS is unknown.
        crs: coordinate reference system as WKT; None: unknown.
    """

    geometry: np.ndarray
    value: Int64[np.ndarray, " N"]
    area_m2: Float64[np.ndarray, " N"]
    crs: str | None

    def __len__(self) -> int:
        return len(self.geometry)


def index_map_to_polygons(
    path: str | Path, *, simplify: float | int = 0, georeference: Georeference | None = None
) -> Polygons:
    """Return the outline of each connected region of an index map.

    Pixels that share only a corner are not connected. The map is read line by line, so memory
    grows with the length of the outlines, not with the number of pixels.

    Args:
        path: a raster of class indices; pixels with its no-data value belong to no region.
        simplify: tolerance in metres: corners are removed as long as outlines move by about this
            distance. Neighbouring regions keep a common outline. 0: the outlines of the pixels.
        georeference: georeference of the map; None: that of the file.

    Returns:
        One polygon per region.

    Raises:
        ConfigError: the raster has no affine transform.
        ImageError: the raster cannot be read.
        MissingPackage: shapely or pyproj is not installed.
    """
    path = Path(path)
    if georeference is None:
        with Raster(path) as raster:
            georeference = raster.georeference or Georeference()
    with gdal_session(path), open_raster(path) as file:
        size, nodata = (file.height, file.width), file.nodata
        regions = [
            (_to_polygon(shape), int(value))
            for shape, value in shapes(rasterio.band(file, 1), connectivity=4)
            if value != nodata
        ]
        grid = tuple(file.transform)[:6]
    polygons = np.empty(len(regions), object)
    polygons[:] = [polygon for polygon, _ in regions]
    # GDAL applies the transform of the file; whole pixels have exact areas.
    polygons = import_geo("shapely").transform(to_pixels(polygons, grid), np.rint)
    values = np.array([value for _, value in regions], np.int64)
    if simplify:
        side = pixel_size(georeference, size) or 1.0
        polygons = _simplify(polygons, simplify / side)
        keep = ~import_geo("shapely").is_empty(polygons)
        polygons, values = polygons[keep], values[keep]
    return place_outlines(polygons, values, georeference)


def masks_to_polygons(
    masks: Masks, georeference: Georeference, window: Tile | None = None
) -> Polygons:
    """Return the outline of each mask; a mask of several parts is a multipolygon.

    Args:
        masks: masks of an image, or of a window of a raster.
        georeference: georeference of the image or raster.
        window: the window, in pixels of the raster. None: the image.

    Returns:
        One geometry per mask, empty for an empty mask; ``value`` is the index of the mask.

    Raises:
        ConfigError: the raster has no affine transform.
        MissingPackage: shapely or pyproj is not installed.
    """
    return place_outlines(outline_masks(masks, window), np.arange(len(masks)), georeference)


def outline_masks(masks: Masks, window: Tile | None = None) -> np.ndarray:
    """Return the outline of each mask in pixels of the raster.

    Args:
        masks: masks of an image, or of a window of a raster.
        window: the window, in pixels of the raster. None: the image.

    Returns:
        One polygon or multipolygon of shapely per mask, empty for an empty mask.
    """
    shapely = import_geo("shapely")
    x0, y0 = (0, 0) if window is None else (window.x0, window.y0)
    outlines = np.empty(len(masks), object)
    for i, counts in enumerate(masks.counts):
        if not masks.area[i]:
            outlines[i] = shapely.Polygon()
            continue
        x, y, by_column = rle.window(counts, masks.size[0])
        part = np.ascontiguousarray(by_column.T).astype(np.uint8)
        move = rasterio.Affine.translation(x0 + x, y0 + y)
        parts = [
            _to_polygon(shape)
            for shape, _ in shapes(part, mask=part > 0, connectivity=4, transform=move)
        ]
        outlines[i] = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
    return outlines


def join_outlines(
    outlines: np.ndarray, group: Int64[np.ndarray, " N"]
) -> tuple[np.ndarray, Int64[np.ndarray, " G"]]:
    """Join the outlines of each group, such as the pieces of an object in several windows.

    Args:
        outlines: N outlines in pixels, so that the pieces meet exactly.
        group: group of each outline.

    Returns:
        One outline per group, and the groups in ascending order.
    """
    shapely = import_geo("shapely")
    order = np.argsort(group, kind="stable")
    groups, starts = np.unique(group[order], return_index=True)
    parts = np.split(outlines[order], starts[1:])
    joined = np.empty(len(groups), object)
    for i, pieces in enumerate(parts if len(groups) else []):
        joined[i] = pieces[0] if len(pieces) == 1 else shapely.union_all(pieces)
    return joined, groups


def place_outlines(
    outlines: np.ndarray, values: Int64[np.ndarray, " N"], georeference: Georeference
) -> Polygons:
    """Return outlines in pixels as polygons in coordinates, with their areas.

    Args:
        outlines: N outlines in pixels of the raster.
        values: value of each outline.
        georeference: georeference of the raster.

    Returns:
        The polygons.

    Raises:
        ConfigError: the raster has no affine transform.
    """
    placed = place(outlines, require_transform(georeference))
    return Polygons(placed, values, areas(outlines, georeference), georeference.crs)


def _to_polygon(shape: dict[str, Any]) -> Any:
    shell, *holes = shape["coordinates"]
    return import_geo("shapely").Polygon(shell, holes)


def _simplify(polygons: np.ndarray, tolerance: float) -> np.ndarray:
    """Simplify regions of pixels without gaps or overlaps.

    Args:
        polygons: the regions, in pixels.
        tolerance: the tolerance, px.

    Returns:
        The simplified polygons, in pixels.
    """
    shapely = import_geo("shapely")
    # Neighbours must share their corners: a corner where three regions meet lies within an edge of
    # one of them.
    fine = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    simplified: np.ndarray = shapely.coverage_simplify(fine, tolerance)
    return simplified
