"""The valid mask of the windows of a raster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from alps.rasters.pixels import none_if_all
from alps.rasters.source import Source

Window = tuple[tuple[int, int], tuple[int, int]]  # rasterio's form of a tile: (rows, columns)


@dataclass(frozen=True, slots=True)
class ValidMask:
    """Reads which pixels of a raster have data; see `alps.rasters.raster.Raster` for the rules.

    Args:
        source: the open raster.
        shown: bands that become RGB or gray.
        colors: all bands that are examined for no-data, including ``shown``.
        alpha: the alpha band; None: there is none.
    """

    source: Source
    shown: Sequence[int]
    colors: Sequence[int]
    alpha: int | None

    def declared(self, window: Window) -> Bool[np.ndarray, "H W"] | None:
        """Return the mask of the raster in a window, or else its alpha; None: it has neither."""
        if self._has_mask:
            return self._read_mask(window)
        if self.alpha is not None:
            opaque: np.ndarray = self.source.file.read(self.alpha, window=window) != 0
            return opaque
        return None

    def of(
        self,
        bands: Shaped[np.ndarray, "C H W"],
        window: Window,
        declared: Bool[np.ndarray, "H W"] | None,
    ) -> Bool[np.ndarray, "H W"] | None:
        """Return the valid mask of a window, or None if all pixels are valid.

        Args:
            bands: values of the bands ``shown`` in the window.
            window: the window.
            declared: the mask from `declared`.

        Returns:
            The mask.
        """
        valid = declared
        if self._nodata is not None:
            has_value = None
            for band in self._all_colors(bands, window):
                differs = band != self._nodata
                has_value = differs if has_value is None else has_value | differs
                if has_value.all():
                    break
            valid = _both(valid, has_value)
        if bands.dtype.kind == "f":
            for band in self._all_colors(bands, window):
                valid = _both(valid, np.isfinite(band))
        return none_if_all(valid)

    @property
    def depends_on_values(self) -> bool:
        """Whether the values of bands determine which pixels are valid."""
        return self._nodata is not None or self.source.file.dtypes[0].startswith("float")

    @property
    def _nodata(self) -> Any:
        """The no-data value; None: there is none, or the mask takes precedence over it."""
        return None if self._has_mask else self.source.nodata

    @property
    def _has_mask(self) -> bool:
        """Whether the raster has a mask, inside its file or beside it."""
        return self.source.has_mask or self.source.mask is not None

    def _read_mask(self, window: Window) -> Bool[np.ndarray, "H W"]:
        """Read the mask of the raster."""
        values: np.ndarray
        if self.source.mask is not None:
            values = self.source.mask.read(1, window=window)
        elif self.source.mask_band is not None:
            values = self.source.file.read(self.source.mask_band, window=window)
        else:
            values = self.source.file.read_masks(1, window=window)
        return values > 0

    def _all_colors(
        self, bands: Shaped[np.ndarray, "C H W"], window: Window
    ) -> Iterator[Shaped[np.ndarray, "H W"]]:
        """Yield ``bands``, then the bands ``colors`` of the window that are not shown."""
        yield from bands
        for i in self.colors:
            if i not in self.shown:
                yield self.source.file.read(i, window=window)


def _both(
    first: Bool[np.ndarray, "H W"] | None, second: Bool[np.ndarray, "H W"] | None
) -> Bool[np.ndarray, "H W"] | None:
    """Return where both masks are True; None is True everywhere."""
    if first is None or second is None:
        return second if first is None else first
    both: Bool[np.ndarray, "H W"] = first & second
    return both
