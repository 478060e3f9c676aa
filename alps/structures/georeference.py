"""The place of a raster on Earth."""

from __future__ import annotations

from dataclasses import dataclass

#: Coefficients a, b, c, d, e, f of an affine transform: x = a column + b row + c,
#: y = d column + e row + f.
Coefficients = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Georeference:
    """The georeference of a raster, in plain types that can be stored.

    Args:
        crs: coordinate reference system as WKT; None: unknown.
        transform: affine transform from pixels to coordinates; None: unknown, or given by ``gcps``.
        gcps: ground control points: column, row, x, y and z of each.
    """

    crs: str | None = None
    transform: Coefficients | None = None
    gcps: tuple[tuple[float, float, float, float, float], ...] = ()
