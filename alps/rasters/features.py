"""The features of a vector layer within one raster, in its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import rasterio
from jaxtyping import Bool, Float64, Int64, Integer
from rasterio.features import rasterize

from alps.rasters.measure import require_transform, to_pixels
from alps.rasters.packages import import_geo
from alps.rasters.vectors import Areas, Layer
from alps.structures.boxes import MIN_SIDE
from alps.structures.georeference import Georeference
from alps.structures.tiles import Tile
from alps.structures.windows import WindowGrid


class RasterFeatures:
    """The N features of a layer that overlap a raster.

    Args:
        layer: the features as stored.
        areas: the features as polygons in the CRS of the raster (`alps.rasters.vectors.to_areas`).
        georeference: georeference of the raster.
        grid: windows of the raster.

    Attributes:
        row: row number of each feature in the layer.
        is_point: whether a feature is a point.

    Raises:
        ConfigError: the raster has no affine transform.
    """

    row: Int64[np.ndarray, " N"]
    is_point: Bool[np.ndarray, " N"]

    def __init__(
        self, layer: Layer, areas: Areas, georeference: Georeference, grid: WindowGrid
    ) -> None:
        shapely = import_geo("shapely")
        geometry = to_pixels(areas.geometry, require_transform(georeference))
        height, width = grid.size
        bounds = shapely.bounds(geometry).clip(0, [width, height, width, height])
        inside = shapely.intersects(geometry, shapely.box(0, 0, width, height))
        inside &= (_sides(bounds) > 0).all(axis=1)  # not if it only touches the raster
        self.row = np.flatnonzero(inside)
        self.is_point = areas.is_point[inside]
        self._grid = grid
        self._geometry = geometry[inside]
        self._stored = layer.geometry[inside]
        self._bounds = bounds[inside]
        self._tree = shapely.STRtree(self._geometry)

    def __len__(self) -> int:
        return len(self.row)

    def overlapping(self, window: Tile) -> Int64[np.ndarray, " n"]:
        """Return the indices of the features that overlap a window, in the order of the layer."""
        box = import_geo("shapely").box(window.x0, window.y0, window.x1, window.y1)
        return np.sort(self._tree.query(box, predicate="intersects")).astype(np.int64)

    def prompted_in(self, window: Tile) -> Int64[np.ndarray, " n"]:
        """Return the indices of the features whose boxes are prompts in a window.

        A feature that fits into a window is prompted once, in the window whose core contains the
        centre of its box. A larger feature is prompted in each window that it overlaps.
        """
        shapely = import_geo("shapely")
        indices = self.overlapping(window)
        bounds = self._bounds[indices]
        height, width = window.size
        fits = (_sides(bounds) <= (width, height)).all(axis=1)
        box = shapely.box(window.x0, window.y0, window.x1, window.y1)
        parts = shapely.bounds(shapely.intersection(self._geometry[indices], box))
        large_enough = (_sides(parts) >= MIN_SIDE).all(axis=1)
        core = self._grid.core(window)
        x, y = ((bounds[:, :2] + bounds[:, 2:]) / 2).T
        central = (core.x0 <= x) & (x < core.x1) & (core.y0 <= y) & (y < core.y1)
        return indices[np.where(fits, central, large_enough)]

    def box_in(
        self, index: int, window: Tile
    ) -> tuple[Float64[np.ndarray, " 4"], Float64[np.ndarray, " 8"] | None]:
        """Return the boxes around the part of a feature in a window.

        Args:
            index: the feature.
            window: the window.

        Returns:
            The horizontal box x0 y0 x1 y1, and the corners of the smallest rotated rectangle, or
            None if it has no area; in pixels of the window.
        """
        shapely = import_geo("shapely")
        box = shapely.box(window.x0, window.y0, window.x1, window.y1)
        part = shapely.intersection(self._geometry[index], box)
        part = shapely.transform(part, lambda points: points - (window.x0, window.y0))
        rectangle = shapely.oriented_envelope(part)
        quad = None
        if rectangle.geom_type == "Polygon" and not rectangle.is_empty:
            quad = shapely.get_coordinates(rectangle)[:4].ravel()
        return np.array(part.bounds, np.float64), quad

    def burn(
        self,
        window: Tile,
        indices: Int64[np.ndarray, " n"],
        values: Integer[np.ndarray, " n"],
        fill: int,
    ) -> Integer[np.ndarray, "H W"]:
        """Draw features over a window, small ones over large ones.

        A pixel belongs to a feature if its centre does. Of equal areas, the later feature is on
        top.

        Args:
            window: the window.
            indices: the features.
            values: value of each feature.
            fill: value of the other pixels.

        Returns:
            The values, in the dtype of ``values``.
        """
        empty = np.full(window.size, fill, values.dtype)
        if not len(indices):
            return empty
        area = import_geo("shapely").area(self._geometry[indices])
        order = np.argsort(-area, kind="stable")
        shapes = zip(self._geometry[indices[order]], values[order].tolist(), strict=True)
        corner = rasterio.Affine.translation(window.x0, window.y0)
        drawn: np.ndarray = rasterize(shapes, out=empty, transform=corner)
        return drawn

    def mask_in(self, index: int, window: Tile) -> Bool[np.ndarray, "H W"]:
        """Return the pixels of a window whose centres lie in a feature."""
        return self.burn(window, np.array([index]), np.ones(1, np.uint8), 0) > 0

    def stored(self, indices: Int64[np.ndarray, " n"]) -> Sequence[str]:
        """Return features as stored in the file, as hexadecimal WKB, for digests."""
        codes: list[str] = import_geo("shapely").to_wkb(self._stored[indices], hex=True).tolist()
        return codes


def _sides(bounds: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 2"]:
    """Return widths and heights of boxes."""
    sides: Float64[np.ndarray, "N 2"] = bounds[:, 2:] - bounds[:, :2]
    return sides
