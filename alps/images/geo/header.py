"""The headers of rasters, and how they differ within a collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alps.images.files.audit import Occurrences, count_of
from alps.images.geo.collection import RasterFile
from alps.rasters.band_names import Band
from alps.structures.findings import Finding
from alps.structures.georeference import Georeference

#: Relative difference of ground sampling distances that is reported.
GSD_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """What is known of a raster before its pixels are read.

    Args:
        file: the raster.
        size: (H, W) as it is read, px.
        bands: its bands.
        georeference: its georeference as it is read; None: unknown.
        gsd: ground sampling distance as stored, m; None: unknown.
    """

    file: RasterFile
    size: tuple[int, int]
    bands: tuple[Band, ...]
    georeference: Georeference | None
    gsd: float | None


def compare_headers(headers: Sequence[RasterHeader], *, resampled: bool) -> list[Finding]:
    """Return a finding for each property in which rasters differ from the first.

    Args:
        headers: the rasters.
        resampled: whether all are read at one ground sampling distance.
    """
    first, n = headers[0], len(headers)
    no_crs, crs, gsd, bands = (Occurrences() for _ in range(4))
    for header in headers:
        name = header.file.file_name
        if header.georeference is None or header.georeference.crs is None:
            no_crs.add(name)
        elif _crs(header) != _crs(first):
            crs.add(name)
        if first.gsd and header.gsd and abs(header.gsd / first.gsd - 1) > GSD_TOLERANCE:
            gsd.add(f"{name}: {header.gsd:.4g} m, {first.file.file_name}: {first.gsd:.4g} m")
        if _layout(header) != _layout(first):
            bands.add(f"{name}: {_layout(header)}, {first.file.file_name}: {_layout(first)}")
    if resampled:
        gsd = Occurrences()
    return [
        Finding(
            "other_gsd",
            gsd.count,
            f"{count_of(gsd.count, n, 'raster')} have another ground sampling distance than the "
            f"first {gsd}",
            "set dataset.gsd to resample all of them to one; otherwise objects differ in size",
        ),
        Finding(
            "other_bands",
            bands.count,
            f"{count_of(bands.count, n, 'raster')} have another number or type of bands than the "
            f"first {bands}",
            "label them separately unless their values are comparable; one stretch applies to all",
        ),
        Finding(
            "other_crs",
            crs.count,
            f"{count_of(crs.count, n, 'raster')} have another coordinate reference system than the "
            f"first {crs}",
            "nothing to do, unless the results are to become one mosaic: gdalwarp -t_srs EPSG:CODE",
        ),
        Finding(
            "no_crs",
            no_crs.count,
            f"{count_of(no_crs.count, n, 'raster')} have no coordinate reference system {no_crs}",
            "add it if the results are to be placed on a map: gdal_edit.py -a_srs EPSG:CODE in.tif",
        ),
    ]


def _crs(header: RasterHeader) -> str | None:
    """Return the CRS of a raster as WKT."""
    return None if header.georeference is None else header.georeference.crs


def _layout(header: RasterHeader) -> str:
    """Return number and types of the bands of a raster."""
    counts = Counter(band.dtype for band in header.bands)
    return " and ".join(f"{count} {dtype}" for dtype, count in counts.items())
