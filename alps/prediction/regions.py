"""Polygons of the predicted regions of a raster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alps.rasters.polygons import index_map_to_polygons
from alps.rasters.qml import polygon_style
from alps.rasters.vectors import write_layer
from alps.structures.georeference import Georeference
from alps.structures.records import Category


def write_regions(
    index_map: Path, target: Path, georeference: Georeference, categories: Sequence[Category]
) -> None:
    """Write a polygon for each connected region of an index map, with class and area.

    Args:
        index_map: the index map, a GeoTIFF.
        target: the vector file to write; its suffix decides on the format. A QGIS style with the
            suffix ``.qml`` is written beside it.
        georeference: georeference of the raster.
        categories: the classes; the id is the pixel value.

    Raises:
        ConfigError: the georeference is not sufficient for polygons.
        MissingPackage: geopandas is not installed.
    """
    polygons = index_map_to_polygons(index_map, georeference=georeference)
    names = {category.id: category.name for category in categories}
    columns = {
        "class_id": polygons.value,
        "class": np.array([names.get(value) for value in polygons.value.tolist()], object),
        "area_m2": polygons.area_m2,
    }
    style = polygon_style(categories)
    write_layer(target, polygons.geometry, columns, polygons.crs, layer="regions", style=style)
