"""Sidecar files of rasters, which GDAL would use and ALPS does not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from alps.rasters.gdal import RASTER_SUFFIXES
from alps.structures.findings import Finding

#: Suffixes appended to the name of a raster, and suffixes that replace its own.
APPENDED = (".aux.xml", ".msk", ".ovr")
REPLACING = (".aux", ".j2w", ".rrd", ".tfw", ".tifw", ".wld")


def find_sidecars(paths: Iterable[str]) -> list[Finding]:
    """Return a finding if any rasters among the paths have sidecar files, else an empty list.

    >>> print(*find_sidecars(["a.tif", "a.tif.msk", "b.tif", "c.png", "c.wld"]))
    1 raster has sidecar files that are not read (1 .msk, the first a.tif.msk): their masks, \
no-data values and georeferences are ignored; write them into the raster: gdal_translate a.tif \
out.tif
    """
    files = set(paths)
    rasters = sorted(path for path in files if path.lower().endswith(RASTER_SUFFIXES))
    kinds: Counter[str] = Counter()
    affected = []
    for raster in rasters:
        stem = str(PurePosixPath(raster).with_suffix(""))
        names = {f"{raster}{kind}": kind for kind in APPENDED}
        names |= {f"{stem}{kind}": kind for kind in REPLACING}
        if sidecars := [name for name in names if name in files]:
            affected.append((raster, sidecars[0]))
            kinds.update(names[name] for name in sidecars)
    if not affected:
        return []
    n, (raster, first) = len(affected), affected[0]
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return [
        Finding(
            "raster_sidecars",
            n,
            f"{n} raster{' has sidecar files' if n == 1 else 's have sidecar files'} that "
            f"are not read ({counts}, the first {first}): their masks, no-data values "
            "and georeferences are ignored",
            f"write them into the raster{'s' * (n > 1)}: gdal_translate {raster} out.tif",
        )
    ]
