"""Label rasters of all kinds, and compare place and no-data of their index maps with the input."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from tqdm import tqdm

from alps.assign.cluster import Cluster
from alps.features.shape import ShapeFeatures
from alps.images.geo.rasters import Rasters
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from benchmarks.measure import markdown
from benchmarks.terrain import GridMasks
from tests.geo_rasters import create_geo_raster, draw_bands

SIZE = (300, 420)  # px
NODATA = {"uint8": 0, "uint16": 0, "int16": -9999, "float32": np.nan}
IGNORE_INDEX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A kind of raster.

    Args:
        dtype: data type of the bands.
        count: number of bands.
        interleave: ``pixel`` or ``band``.
        driver: ``GTiff``, ``COG`` or ``VRT``.
        grid: name of CRS and transform (`tests.geo_rasters.GRIDS`).
    """

    dtype: str = "uint8"
    count: int = 3
    interleave: str = "pixel"
    driver: str = "GTiff"
    grid: str = "UTM"

    def write(self, folder: Path) -> Path:
        """Write a raster with a border and a corner of no-data; return its path."""
        bands = draw_bands(self.count, SIZE, np.dtype(self.dtype))
        for empty in (np.s_[:, :20], np.s_[:, :, -30:], np.s_[:, 200:, :150]):
            bands[empty] = NODATA[self.dtype]
        path = folder / "a.tif"
        options = {"interleave": self.interleave, "nodata": NODATA[self.dtype]}
        create_geo_raster(path, bands, self.grid, **options)
        if self.driver == "GTiff":
            return path
        copy = folder / ("b.vrt" if self.driver == "VRT" else "b.tif")
        rasterio.shutil.copy(path, copy, driver=self.driver)
        return copy


#: One property differs from the first row in most rows.
INPUTS = (
    *(Input(dtype=dtype, count=n) for dtype in NODATA for n in (1, 3, 4, 13)),
    Input(interleave="band"),
    Input(dtype="uint16", count=13, interleave="band"),
    *(Input(driver=driver) for driver in ("COG", "VRT")),
    *(Input(grid=grid) for grid in ("geographic", "Albers", "rotated", "flipped")),
)


def compare_inputs(folder: Path) -> str:
    """Return a table of the inputs and of what came out.

    Args:
        folder: an empty folder for rasters and stores.
    """
    rows = []
    for i, kind in enumerate(tqdm(INPUTS, unit="raster")):
        here = folder / str(i)
        here.mkdir(parents=True)
        place_and_classes = compare_input(kind.write(here), here / "store")
        rows.append([*astuple(kind), *place_and_classes])
    columns = ["dtype", "bands", "interleaved by", "format", "grid", "CRS", "transform"]
    return markdown([*columns, "no data with a class", "data without a class"], rows)


def compare_input(path: Path, store: Path) -> list[str]:
    """Label a raster; return whether CRS and transform are equal, and shares of pixels in %."""
    with rasterio.open(path) as file:
        count, crs, transform = file.count, file.crs, file.transform
        empty = file.dataset_mask() == 0
    images = Rasters(root=str(path), window=256, overlap=32, rgb=[3, 2, 1] if count > 1 else [1])
    label(
        image_set=images,
        masks=GridMasks(),
        features=ShapeFeatures(),
        assign=Cluster(k=4),
        engine=LocalEngine(threads=1),
        root=store,
        name="inputs",
        config="",
    )
    with rasterio.open(next((store / "ann").rglob("*.tif"))) as file:
        labels = file.read(1)
        equal = [file.crs == crs, file.transform.almost_equals(transform, precision=1e-9)]
    classed = labels != IGNORE_INDEX
    shares = [f"{100 * classed[empty].mean():.3f} %", f"{100 * (~classed[~empty]).mean():.3f} %"]
    return ["equal" if same else "differs" for same in equal] + shares
