"""The valid mask of the windows of a raster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

    def of(
        self, bands: Shaped[np.ndarray, "C H W"], window: Window
    ) -> Bool[np.ndarray, "H W"] | None:
        """Return the valid mask of a window, or None if all pixels are valid.

        Args:
            bands: values of the bands ``shown``, or of the first, in the window.
            window: the window.

        Returns:
            The mask.
        """
        file, nodata = self.source.file, self.source.nodata
        if self._has_mask:
            valid = self._read_mask(window)
        else:
            valid = np.ones(bands.shape[1:], bool)
            if self.alpha is not None:
                valid &= file.read(self.alpha, window=window) != 0
            if nodata is not None:
                has_value = np.zeros_like(valid)
                for band in self._all_colors(bands, window):
                    has_value |= band != nodata
                    if has_value.all():
                        break
                    if has_value.all():
                        break
                valid &= has_value
        if bands.dtype.kind == "f":
            for band in self._all_colors(bands, window):
                valid &= np.isfinite(band)
        return none_if_all(valid)

    def is_empty(self, window: Window) -> bool:
        """Return whether a window has no valid pixel, without reading more bands than required."""
        file, nodata = self.source.file, self.source.nodata
        if self._has_mask:
            return not self._read_mask(window).any()
        if self.alpha is not None and not file.read(self.alpha, window=window).any():
            return True
        is_float = file.dtypes[0].startswith("float")
        if nodata is None and not is_float:
            return False
        for number in self.colors:
            band = file.read(number, window=window)
            if is_float and not np.isfinite(band).any():
                return True
            if nodata is None or (band != nodata).any():
                return False
        return True

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
