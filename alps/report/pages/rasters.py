"""The section of the report about rasters: maps, places, and areas of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from alps.report.charts.numbers import decimal
from alps.report.counts.rasters import RasterCounts
from alps.report.pictures.drawing import data_uri, hatch
from alps.structures.records import Category

MAP_BYTES = 60_000  # maximum size of the picture of a map
CLASSES = 24  # number of classes in the table of areas, the largest first
HECTARE = 10_000.0  # m²


@dataclass(frozen=True, slots=True)
class RasterMap:
    """A raster with its map; texts are for people."""

    name: str
    size: str
    crs: str
    gsd: str
    extent: str
    hectares: str
    picture: str  # data URI


def raster_section(
    rasters: Sequence[RasterCounts], categories: Sequence[Category]
) -> dict[str, Any]:
    """Return the maps of the first rasters, and the areas of the largest classes in all."""
    area = np.sum([raster.class_area for raster in rasters], axis=0)
    order = [c for c in np.argsort(-area, kind="stable").tolist() if area[c]]
    return {
        "n": len(rasters),
        "windows": sum(raster.windows for raster in rasters),
        "unplaced": sum(raster.grid is None for raster in rasters),
        "total": _hectares(area.sum()),
        "maps": [_map(raster, categories) for raster in rasters if raster.overview is not None],
        "classes": [
            (categories[c], _hectares(area[c]), area[c] / area.sum()) for c in order[:CLASSES]
        ],
        "more": max(len(order) - CLASSES, 0),
    }


def _map(raster: RasterCounts, categories: Sequence[Category]) -> RasterMap:
    grid, (height, width) = raster.grid, raster.size
    assert raster.overview is not None
    gsd, extent, crs = "", "", "no coordinate reference system"
    if grid is not None:
        gsd = f"{_significant(sum(grid.gsd) / 2)} m per pixel"
        west, south, east, north = grid.bounds()
        extent = (
            f"{_degrees(south, 'NS')} to {_degrees(north, 'NS')}, "
            f"{_degrees(west, 'EW')} to {_degrees(east, 'EW')}"
        )
        crs = _crs_name(grid.crs)
    return RasterMap(
        name=raster.name,
        size=f"{width} \N{MULTIPLICATION SIGN} {height} px",
        crs=crs,
        gsd=gsd,
        extent=extent,
        hectares="" if grid is None else _hectares(raster.class_area.sum()),
        picture=data_uri(_draw(raster.overview, categories), MAP_BYTES, flat=True),
    )


def _draw(
    index_map: Integer[np.ndarray, "h w"], categories: Sequence[Category]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw an index map in the colours of its classes, hatched where there is no class."""
    picture = hatch(index_map.shape)
    colors = np.array([category.color for category in categories], np.uint8)
    labelled = index_map < len(categories)
    picture[labelled] = colors[index_map[labelled]]
    return picture


def _crs_name(crs: Any) -> str:
    """Return the EPSG code of a CRS, or the name in its WKT."""
    code = crs.to_epsg()
    name = str(crs.to_wkt()).split('"')[1]
    return name if code is None else f"{name} (EPSG:{code})"


def _degrees(value: float, hemispheres: str) -> str:
    return f"{abs(value):.5f}\N{DEGREE SIGN} {hemispheres[value < 0]}"


def _significant(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:.{max(2 - floor(log10(value)), 0)}f}"


def _hectares(area: float) -> str:
    return f"{decimal(area / HECTARE)} ha"
