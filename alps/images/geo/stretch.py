"""One stretch to 8 bits for a whole collection of rasters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np

from alps.rasters.raster import Raster
from alps.rasters.stretch import stretch_limits
from alps.structures.tiles import Tile

#: Number of windows whose values are sampled, and their side, px.
WINDOWS, SIDE = 64, 256
#: Number of windows that are tried for each one with data.
TRIES = 4
#: Steps of a sequence of points that covers a square evenly, whatever the number of points
#: (Roberts' R2 sequence).
STEPS = 0.7548776662466927, 0.5698402909980532

Item = TypeVar("Item")


def collection_limits(
    rasters: Sequence[Item], open_raster: Callable[[Item], AbstractContextManager[Raster]]
) -> tuple[tuple[float, float], ...]:
    """Return the values of each band that become 0 and 255.

    They are the percentiles `alps.rasters.stretch.STRETCH` of a sample: up to `WINDOWS` windows,
    evenly distributed over the rasters and within each raster. The result depends only on the
    rasters and their order.

    Args:
        rasters: the rasters, at least one.
        open_raster: opens one of them; its view selects the bands.

    Returns:
        Minimum and maximum of each band.
    """
    n = min(len(rasters), WINDOWS)
    chosen = [rasters[i * len(rasters) // n] for i in range(n)]
    samples = []
    for item in chosen:
        with open_raster(item) as raster:
            samples.append(_sample(raster, WINDOWS // n))
    return tuple(stretch_limits(band) for band in np.concatenate(samples, axis=1))


def _sample(raster: Raster, n: int) -> np.ndarray:
    """Return the values of ``n`` windows of a raster with data, (C, N), or of fewer."""
    samples: list[np.ndarray] = []
    for tile in _tiles(raster.size, n * TRIES):
        values = raster.sample_values(tile)
        if values.size or not samples:
            samples.append(values)
        if sum(sample.size > 0 for sample in samples) == n:
            break
    return np.concatenate(samples, axis=1)


def _tiles(size: tuple[int, int], n: int) -> Iterator[Tile]:
    """Yield ``n`` tiles that are evenly distributed over a raster, or one that contains it."""
    height, width = (min(side, SIDE) for side in size)
    rows, columns = size[0] - height, size[1] - width
    for i in range(n if rows or columns else 1):
        x, y = (
            round(free * (0.5 + i * step) % free) if free else 0
            for free, step in zip((columns, rows), STEPS, strict=True)
        )
        yield Tile(x, y, x + width, y + height)
