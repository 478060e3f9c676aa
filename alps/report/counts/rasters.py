"""Counts of the rasters of a store: areas of classes on the ground, and small maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from alps.rasters.index_map import read_index_map, read_overview
from alps.rasters.resample import Grid
from alps.store.label_store import LabelStore
from alps.store.rasters import StoredRaster, StoredRasters
from alps.structures.tiles import Tile

#: Number of rasters that the report shows, and length of the longer side of their maps, px.
SHOWN, LONGEST = 12, 640
#: Number of rows of an index map that are counted at once.
STRIP = 512


@dataclass(frozen=True, slots=True, eq=False)
class RasterCounts:
    """Counts of one raster."""

    name: str  # its index map, relative to ann/
    size: tuple[int, int]  # (H, W), px
    windows: int
    grid: Grid | None  # None: it has no place on Earth
    class_pixels: Int64[np.ndarray, " K"]
    class_area: Float64[np.ndarray, " K"]  # m²; 0 without a place
    overview: Integer[np.ndarray, "h w"] | None  # None: it is not shown


def count_rasters(store: LabelStore) -> list[RasterCounts]:
    """Count the pixels of each class in the index maps of rasters, each pixel once."""
    rasters = StoredRasters(store)
    return [_count(store, rasters, raster, shown=i < SHOWN) for i, raster in enumerate(rasters)]


def _count(
    store: LabelStore, rasters: StoredRasters, raster: StoredRaster, *, shown: bool
) -> RasterCounts:
    path, k, size = store.root / raster.file, store.info.num_classes, raster.grid.size
    georeference = rasters.window(raster.first).status.georeference
    grid = None if georeference is None else Grid.of(georeference, size)
    pixels, area = np.zeros(k, np.int64), np.zeros(k)
    for top in range(0, size[0], STRIP):
        bottom = min(top + STRIP, size[0])
        strip = read_index_map(path, Tile(0, top, size[1], bottom))
        counts = np.bincount(strip.ravel(), minlength=k)[:k]
        pixels += counts
        if grid is not None:
            area += counts * grid.rows(top, bottom).pixel_area
    return RasterCounts(
        name=raster.file.split("/", 1)[1],
        size=size,
        windows=len(raster.grid.windows),
        grid=grid,
        class_pixels=pixels,
        class_area=area,
        overview=read_overview(path, LONGEST) if shown else None,
    )
