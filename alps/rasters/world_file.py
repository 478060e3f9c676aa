"""World files: six numbers beside a raster that georeference it."""

from __future__ import annotations

import logging
from pathlib import Path

from rasterio import Affine

logger = logging.getLogger(__name__)

#: Bytes of a world file to read; it has six numbers.
MAX_BYTES = 1024


def read_world_file(path: Path) -> Affine | None:
    """Return the transform in the world file of a raster, or None if there is none.

    A world file refers to the centre of the first pixel, the transform to its corner.

    Args:
        path: the raster. For a.tif these names are tried: a.tfw, a.tifw and a.wld, also in upper
            case.
    """
    for name in _names(path):
        try:
            with name.open("rb") as file:
                a, d, b, e, c, f = map(float, file.read(MAX_BYTES).split()[:6])
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            logger.warning("%s is not a valid world file (%s) and is ignored", name, error)
            continue
        return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
    return None


def _names(path: Path) -> list[Path]:
    """Return the possible names of the world file of a raster."""
    extension = path.suffix[1:].lower()
    if not extension:
        return []
    suffixes = (f"{extension[0]}{extension[-1]}w", f"{extension}w", "wld")
    return [path.with_suffix(f".{s}") for suffix in suffixes for s in (suffix, suffix.upper())]
