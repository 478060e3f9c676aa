"""Where on Earth a raster lies."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio

logger = logging.getLogger(__name__)

#: A world file has six numbers.
LONGEST_WORLD_FILE = 1024  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A coordinate reference system, and where the pixels are in it.

    Args:
        crs: rasterio's; None: unknown.
        transform: from pixels to coordinates. None: there are points instead, or nothing.
        gcps: ground control points.
    """

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()

    def to_profile(self) -> dict[str, Any]:
        """Return the options of `rasterio.open` for a new file at the same place."""
        if self.gcps:
            return {"gcps": self.gcps, "crs": self.crs}
        return {"crs": self.crs, "transform": self.transform}


def find_place(path: Path, file: Any) -> Place | None:
    """Return what an open raster, or the world file beside a TIFF, says; None: nothing.

    Args:
        path: of the raster; a world file has its name and ends in ``.tfw``.
        file: rasterio's dataset.
    """
    points, system = file.gcps
    if points:
        return Place(system, gcps=tuple(points))
    transform = None if file.transform.is_identity else file.transform
    if transform is None and file.driver == "GTiff":
        transform = _read_world_file(path.with_suffix(".tfw"))
    return None if file.crs is None and transform is None else Place(file.crs, transform)


def _read_world_file(path: Path) -> Any:
    """Return the transform that it means, whose origin is a corner and not a pixel's centre."""
    try:
        with path.open("rb") as file:
            a, d, b, e, c, f = map(float, file.read(LONGEST_WORLD_FILE).split()[:6])
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s is no world file (%s) and is not used", path, error)
        return None
    return rasterio.Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
