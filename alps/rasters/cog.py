"""Write index maps as Cloud Optimized GeoTIFFs, one per raster or as a mosaic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import rasterio
from rasterio.merge import merge
from rasterio.shutil import copy

from alps.rasters.gdal import gdal_session, open_raster
from alps.rasters.qml import raster_style
from alps.structures.records import Category

#: Largest distance of a pixel corner from the grid of another raster, px.
ALIGNED = 1e-3
#: A mosaic may have this many times the pixels of its parts; else most of it would be empty.
MAX_EMPTY = 16


def write_cog(source: Path, target: Path, categories: Sequence[Category]) -> None:
    """Write an index map as a COG, and a QGIS style beside it.

    The COG has the palette and tags of the index map. Its overviews contain the most frequent
    class.

    Args:
        source: the index map, a GeoTIFF.
        target: the file to write; the style has the suffix ``.qml``.
        categories: the classes.

    Raises:
        ImageError: a file cannot be read or written.
    """
    with gdal_session(source):
        copy(
            source,
            target,
            driver="COG",
            compress="DEFLATE",
            blocksize=512,
            overview_resampling="MODE",
            bigtiff="IF_SAFER",
        )
    target.with_suffix(".qml").write_text(raster_style(categories), encoding="utf-8")


def share_grid(paths: Sequence[Path]) -> bool:
    """Return whether rasters can form a mosaic without resampling.

    They need the same CRS, pixel size and data type, north at the top, whole pixels between their
    corners, and must not lie so far apart that the mosaic would be mostly empty.

    Args:
        paths: GeoTIFFs.

    Returns:
        True for a single raster, too.
    """
    if len(paths) == 1:
        return True
    pixels, boxes, first = 0, [], None
    for path in paths:
        with gdal_session(path), open_raster(path) as file:
            a, b, c, d, e, f = tuple(file.transform)[:6]
            grid = file.crs, a, e, file.dtypes[0]
            if b or d or a <= 0 or e >= 0 or file.crs is None:
                return False
            first = first or (*grid, c, f)
            same = (
                grid[0] == first[0]
                and grid[3] == first[3]
                and math.isclose(a, first[1], rel_tol=1e-9)
                and math.isclose(e, first[2], rel_tol=1e-9)
            )
            x, y = (c - first[4]) / a, (f - first[5]) / e
            if not same or max(abs(x - round(x)), abs(y - round(y))) > ALIGNED:
                return False
            boxes.append((x, y, x + file.width, y + file.height))
            pixels += file.width * file.height
    left, top, right, bottom = zip(*boxes, strict=True)
    mosaic = (max(right) - min(left)) * (max(bottom) - min(top))
    return bool(mosaic <= MAX_EMPTY * pixels)


def join_maps(paths: Sequence[Path], target: Path) -> None:
    """Join index maps of one grid (`share_grid`) part by part; the first map with a class counts.

    Args:
        paths: GeoTIFFs of class indices.
        target: the GeoTIFF to write.

    Raises:
        ImageError: a file cannot be read or written.
    """
    with gdal_session(paths[0]):
        with open_raster(paths[0]) as file:
            colors, nodata, names = file.colormap(1), file.nodata, file.tags(1)
        options = {
            "driver": "GTiff",
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "deflate",
            "sparse_ok": True,
            "BIGTIFF": "IF_SAFER",
        }
        merge([*map(str, paths)], nodata=nodata, dst_path=target, dst_kwds=options)
        with rasterio.open(target, "r+", driver="GTiff") as file:
            file.write_colormap(1, colors)
            file.update_tags(1, **names)
