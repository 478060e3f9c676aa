"""Sidecar files of rasters that GDAL would use and ALPS does not read.

Read are ``.aux.xml``, ``.msk`` and world files (`alps.rasters.source`). Overviews (``.ovr``,
``.rrd``) are not needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from alps.rasters.gdal import RASTER_SUFFIXES
from alps.structures.findings import Finding

#: Suffix that replaces that of a raster: statistics and georeference of ERDAS Imagine.
ERDAS = ".aux"


def find_sidecars(paths: Iterable[str]) -> list[Finding]:
    """Return a finding if any rasters among the paths have sidecar files that are not read.

    >>> print(*find_sidecars(["a.tif", "a.aux", "a.tif.msk", "b.tif", "c.png", "c.aux"]))
    1 raster has a sidecar file .aux that is not read (first: a.aux), so its no-data value and \
georeference are ignored; write them into the raster: gdal_translate a.tif out.tif
    """
    files = set(paths)
    rasters = sorted(path for path in files if path.lower().endswith(RASTER_SUFFIXES))
    affected = [(raster, aux) for raster in rasters if (aux := _erdas_name(raster)) in files]
    if not affected:
        return []
    n, (raster, first) = len(affected), affected[0]
    count = "1 raster has a" if n == 1 else f"{n} rasters have a"
    return [
        Finding(
            "raster_sidecars",
            n,
            f"{count} sidecar file {ERDAS} that is not read (first: {first}), so its no-data value "
            "and georeference are ignored",
            f"write them into the raster{'s' * (n > 1)}: gdal_translate {raster} out.tif",
        )
    ]


def _erdas_name(raster: str) -> str:
    """Return the name of the ``.aux`` file of a raster."""
    return str(PurePosixPath(raster).with_suffix(ERDAS))
