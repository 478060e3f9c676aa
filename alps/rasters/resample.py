"""Resampling of rasters to one ground sampling distance, or to the grid of another raster."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, hypot, nan, radians
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import rasterio
from rasterio import CRS, Affine
from rasterio.dtypes import dtype_rev, typename_fwd
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from alps.structures.georeference import Georeference

#: Relative difference of ground sampling distances that are considered equal.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixels of a raster on Earth.

    Args:
        crs: coordinate reference system.
        transform: affine transform from pixels to coordinates.
        height: number of rows.
        width: number of columns.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @property
    def gsd(self) -> tuple[float, float]:
        """Ground sampling distance along rows and columns, m; of the centre if it varies."""
        x_unit, y_unit = self._metres_per_unit()
        a, b, _, d, e, _ = tuple(self.transform)[:6]
        return hypot(a * x_unit, d * y_unit), hypot(b * x_unit, e * y_unit)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel, m²; of the central pixel if it varies."""
        x_unit, y_unit = self._metres_per_unit()
        a, b, _, d, e, _ = tuple(self.transform)[:6]
        return float(abs(a * e - b * d) * x_unit * y_unit)

    def rows(self, first: int, stop: int) -> Grid:
        """Return the grid of some rows."""
        a, b, x, d, e, y = tuple(self.transform)[:6]
        transform = Affine(a, b, x + b * first, d, e, y + e * first)
        return Grid(self.crs, transform, stop - first, self.width)

    def bounds(self) -> tuple[float, float, float, float]:
        """Return west, south, east and north in degrees of WGS 84."""
        a, b, left, d, e, top = tuple(self.transform)[:6]
        corners = [
            (a * column + b * row + left, d * column + e * row + top)
            for column in (0, self.width)
            for row in (0, self.height)
        ]
        x, y = zip(*corners, strict=True)
        box = (min(x), min(y), max(x), max(y))
        west, south, east, north = transform_bounds(self.crs, CRS.from_epsg(4326), *box)
        return west, south, east, north

    @classmethod
    def of(cls, georeference: Georeference, size: tuple[int, int]) -> Grid | None:
        """Return the grid of a raster of ``size`` (H, W); None without CRS or transform."""
        if georeference.crs is None or georeference.transform is None:
            return None
        return cls(CRS.from_wkt(georeference.crs), Affine(*georeference.transform), *size)

    def at(self, gsd: float) -> Grid:
        """Return the grid of another ground sampling distance with the same origin and rotation.

        Args:
            gsd: side of a pixel, m.
        """
        across, down = gsd / self.gsd[0], gsd / self.gsd[1]
        if max(abs(across - 1), abs(down - 1)) < TOLERANCE:
            return self
        a, b, x, d, e, y = tuple(self.transform)[:6]
        return Grid(
            self.crs,
            Affine(a * across, b * down, x, d * across, e * down, y),
            max(1, round(self.height / down)),
            max(1, round(self.width / across)),
        )

    def _metres_per_unit(self) -> tuple[float, float]:
        """Return the lengths of one unit of x and y, m."""
        if not self.crs.is_geographic:
            factor = float(self.crs.linear_units_factor[1])
            return factor, factor
        _, _, _, d, e, y = tuple(self.transform)[:6]
        unit = float(self.crs.units_factor[1])  # radians, of a degree as a rule
        latitude = unit * (d * self.width / 2 + e * self.height / 2 + y)
        # Series for the WGS 84 ellipsoid, exact to a centimetre per degree.
        x = 111412.84 * cos(latitude) - 93.5 * cos(3 * latitude) + 0.118 * cos(5 * latitude)
        y = 111132.92 - 559.82 * cos(2 * latitude) + 1.175 * cos(4 * latitude)
        degrees = unit / radians(1)
        return x * degrees, y * degrees


def warp(
    file: Any,
    source: Grid,
    target: Grid,
    *,
    nodata: float | None,
    masked: bool,
    nearest: bool = False,
) -> Any:
    """Return an open raster that is resampled while it is read.

    Values are averaged for larger pixels and interpolated (bilinear) for smaller ones. Invalid
    pixels do not contribute.

    Args:
        file: the open raster.
        source: its grid.
        target: grid of the result.
        nodata: no-data value.
        masked: whether the raster has a mask, which becomes an alpha band of the result.
        nearest: take the nearest value instead, because values are indices of a palette.
    """
    coarser = target.gsd[0] >= source.gsd[0]
    linear = Resampling.average if coarser else Resampling.bilinear
    if nodata is None and file.dtypes[0].startswith("float"):
        nodata = nan  # otherwise a NaN spreads to its neighbours
    return WarpedVRT(
        file,
        src_crs=source.crs,
        src_transform=source.transform,
        crs=target.crs,
        transform=target.transform,
        height=target.height,
        width=target.width,
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=masked,
        resampling=Resampling.nearest if nearest else linear,
    )


def open_masked(path: Path, mask: Path, file: Any) -> Any:
    """Open a raster together with a separate mask, so that both are resampled.

    Args:
        path: the raster.
        mask: TIFF with the mask; 0 is invalid.
        file: the open raster.

    Returns:
        The open raster, whose mask is that of the file ``mask``.
    """
    size = {"rasterXSize": str(file.width), "rasterYSize": str(file.height)}
    root = ET.Element("VRTDataset", size)
    for number, dtype in zip(file.indexes, file.dtypes, strict=True):
        band = ET.SubElement(
            root,
            "VRTRasterBand",
            {"dataType": typename_fwd[dtype_rev[dtype]], "band": str(number)},
        )
        _add_source(band, "SimpleSource", path, number)
    band = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", {"dataType": "Byte"})
    source = _add_source(band, "ComplexSource", mask, 1)
    ET.SubElement(source, "LUT").text = "0:0,1:255"
    return rasterio.open(ET.tostring(root, encoding="unicode"), driver="VRT", sharing=False)


def _add_source(band: ET.Element, tag: str, path: Path, number: int) -> ET.Element:
    """Add a band of a file as the source of a band of a VRT."""
    source = ET.SubElement(band, tag)
    attributes = {"relativeToVRT": "0", "shared": "0"}
    ET.SubElement(source, "SourceFilename", attributes).text = str(path.absolute())
    ET.SubElement(source, "SourceBand").text = str(number)
    return source
