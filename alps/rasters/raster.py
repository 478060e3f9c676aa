"""Read the pixels and the valid mask of a raster, as a whole or by window."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from rasterio.enums import ColorInterp, MaskFlags

from alps.rasters.gdal import gdal_session, open_raster, page_size
from alps.rasters.georeference import read_georeference
from alps.rasters.limits import check_block, check_size
from alps.rasters.pixels import Pixels, none_if_all
from alps.rasters.stretch import finite_pixels, stretch_between, stretch_limits, stretch_values
from alps.structures.georeference import Georeference
from alps.structures.palette import IGNORE_COLOR
from alps.structures.tiles import Tile

#: Number of pixels sampled for the percentiles that become 0 and 255: every n-th row and column.
SAMPLE_PIXELS = 1 << 21
#: Number of pixels decoded at a time for the sample, and of rows stretched at a time.
PART_PIXELS, STRIP_ROWS = 1 << 22, 256
#: Command that extracts three bands of a file with more.
TO_RGB = "gdal_translate -b 1 -b 2 -b 3 in.tif out.tif"

Window = tuple[tuple[int, int], tuple[int, int]]  # rasterio's form of a tile: (rows, columns)


class Raster:
    """An open TIFF or JPEG 2000 file.

    One or two bands are read as gray. If there are three or four bands, the first three are read as
    red, green and blue, unless the file declares which bands are. An alpha band does not count as
    one of these. Palettes are converted to colours. 8-bit values are kept. Other values are
    stretched linearly between two percentiles of the whole raster, which are equal for all windows
    (`alps.rasters.stretch`) and come from a regular sample if there are more than `SAMPLE_PIXELS`
    pixels.

    Valid pixels follow GDAL's mask: the mask inside the file, else alpha (0 is invalid) and the
    no-data value (invalid if all bands have it). NaN and infinity in any band are invalid as well.
    The value 0 is valid unless it is declared as no data, because dark water may be 0 too.

    Args:
        path: the file.

    Raises:
        ImageError: the file cannot be read, contains complex numbers, or has too many bands or
            several pages of the same size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with gdal_session(self.path):
            self._file = open_raster(self.path)
            try:
                self._inspect()
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with gdal_session(self.path):
            self._file.close()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self._file.height, self._file.width

    @property
    def count(self) -> int:
        """Number of bands, including alpha."""
        return int(self._file.count)

    @property
    def is_tiff(self) -> bool:
        """Whether the file is a TIFF rather than JPEG 2000."""
        return bool(self._file.driver == "GTiff")

    @cached_property
    def georeference(self) -> Georeference | None:
        """Georeference of the raster; None: unknown."""
        with gdal_session(self.path):
            return read_georeference(self.path, self._file)

    def read(self, tile: Tile | None = None) -> Pixels:
        """Read a window, or the whole raster if it is within the size limits.

        Invalid pixels keep their colours in 8-bit rasters and become black in rasters of more bits.

        Args:
            tile: the window. None: the whole raster.

        Returns:
            The image and its valid mask.
        """
        with gdal_session(self.path):
            if tile is None:
                check_size(self.path, *self.size, max(self._pixel_bytes, 3))
            window = _window(tile or Tile(0, 0, self.size[1], self.size[0]))
            if not self._deep and len(self._bands) == 3:  # the usual case, without a copy
                image = np.empty((*_shape(window), 3), np.uint8)
                self._file.read(self._bands, window=window, out=image.transpose(2, 0, 1))
                return Pixels(image, self._valid(image.transpose(2, 0, 1), window))
            bands = self._file.read(self._bands, window=window)
            valid = self._valid(bands, window)
            if self._deep:
                if tile is None:  # avoids reading the raster again for the sample
                    self._limits = self._limits_of(bands, valid)
                return Pixels(self._stretch(bands, valid), valid)
            return Pixels(self._to_rgb(bands[0]), valid)

    def valid(self, tile: Tile) -> Bool[np.ndarray, "H W"]:
        """Read the valid mask of a window."""
        with gdal_session(self.path):
            window = _window(tile)
            all_bands = self._nodata is not None or self._file.dtypes[0].startswith("float")
            bands = self._file.read(self._bands if all_bands else self._bands[:1], window=window)
            valid = self._valid(bands, window)
            return np.ones(_shape(window), bool) if valid is None else valid

    def read_first_band(self) -> Shaped[np.ndarray, "H W"]:
        """Read the first band as stored."""
        with gdal_session(self.path):
            check_size(self.path, *self.size, max(self._pixel_bytes, 3))
            values: np.ndarray = self._file.read(1)
            return values

    def _inspect(self) -> None:
        """Determine the meaning of the bands; raise `ValueError` if they cannot become RGB."""
        file = self._file
        dtype = file.dtypes[0]
        if dtype.startswith("complex"):
            raise ValueError(
                f"it contains complex numbers ({dtype}), expected real numbers; compute "
                'their magnitude: gdal_calc.py -A in.tif --calc="abs(A)" --type=Float32 '
                "--outfile=out.tif"
            )
        interpretation = dict(enumerate(file.colorinterp, 1))
        alpha = [i for i, kind in interpretation.items() if kind == ColorInterp.alpha]
        colors = [i for i in interpretation if i not in alpha]
        if not 1 <= len(colors) <= 4 or len(alpha) > 1:
            raise ValueError(
                f"it has {file.count} bands, expected 1 to 4; write red, green and blue into a "
                f"separate file: {TO_RGB}"
            )
        declared_rgb = [
            i
            for kind in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            for i in colors
            if interpretation[i] == kind
        ]
        self._alpha = alpha[0] if alpha else None
        self._colors = colors
        self._bands = (
            declared_rgb if len(declared_rgb) == 3 else colors[: 3 if len(colors) >= 3 else 1]
        )
        self._deep = dtype != "uint8"
        self._nodata = _as_dtype(file.nodata, dtype)
        self._mask = file.mask_flag_enums[0] == [MaskFlags.per_dataset]
        # In a damaged JPEG 2000 file GDAL would search for this tag forever.
        tags = file.tags(ns="IMAGE_STRUCTURE") if self.is_tiff else {}
        self._white_is_zero = tags.get("MINISWHITE") == "YES"
        self._bits = int(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
        self._palette = None
        if interpretation[colors[0]] == ColorInterp.palette and dtype in ("uint8", "uint16"):
            self._palette = _table(file.colormap(colors[0]), 1 << (16 if self._deep else 8))
            self._deep = False
        self._check_pages()
        rows, columns = file.block_shapes[0]
        check_block(self.path, rows, columns, self._pixel_bytes)

    @property
    def _pixel_bytes(self) -> int:
        """Bytes of a pixel while it is decoded; JPEG 2000 takes 32 bits per value or more."""
        value = np.dtype(self._file.dtypes[0]).itemsize
        return int(self._file.count * (value if self.is_tiff else max(value, 4)))

    def _check_pages(self) -> None:
        """Raise `ValueError` if the pages may be bands; pages of different sizes are ignored."""
        pages = self._file.subdatasets
        if len(pages) > 1 and page_size(pages[1]) == self.size:
            raise ValueError(
                f"it has {len(pages)} pages of the same size, expected 1 to 4 bands in one page; "
                "convert them to bands: gdal_merge.py -separate -o out.tif GTIFF_DIR:1:in.tif "
                "GTIFF_DIR:2:in.tif GTIFF_DIR:3:in.tif"
            )

    def _valid(
        self, bands: Shaped[np.ndarray, "C H W"], window: Window
    ) -> Bool[np.ndarray, "H W"] | None:
        """Return the valid mask of a window, or None if all pixels are valid.

        Args:
            bands: values of the bands `_bands` in the window.
            window: the window.
        """
        if self._mask:
            valid = self._file.read_masks(1, window=window) > 0
        else:
            valid = np.ones(bands.shape[1:], bool)
            if self._alpha is not None:
                valid &= self._file.read(self._alpha, window=window) != 0
            if self._nodata is not None:
                has_value = np.zeros_like(valid)
                for band in self._all_colors(bands, window):
                    has_value |= band != self._nodata
                valid &= has_value
        if bands.dtype.kind == "f":
            for band in self._all_colors(bands, window):
                valid &= np.isfinite(band)
        return none_if_all(valid)

    def _all_colors(
        self, bands: Shaped[np.ndarray, "C H W"], window: Window
    ) -> list[Shaped[np.ndarray, "H W"]]:
        """Return ``bands``, and the colour bands of the window that are not part of RGB."""
        indices = [i for i in self._colors if i not in self._bands]
        return [*bands, *(self._file.read(i, window=window) for i in indices)]

    def _to_rgb(self, band: Shaped[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
        """Convert palette indices or gray of up to 8 bits to RGB."""
        if self._palette is not None:
            image: np.ndarray = self._palette[band]
            return image
        if self._bits < 8:
            highest = (1 << self._bits) - 1
            table = np.rint(np.arange(256).clip(max=highest) * (255 / highest)).astype(np.uint8)
            band = table[band]
        if self._white_is_zero:
            band = ~band
        return np.repeat(band[..., None], 3, axis=2)

    def _stretch(
        self, bands: Shaped[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"] | None
    ) -> UInt8[np.ndarray, "H W 3"]:
        image = np.empty((*bands.shape[1:], 3), np.uint8)
        number = np.promote_types(bands.dtype, np.float32)
        for top in range(0, len(image), STRIP_ROWS):
            rows = np.s_[top : top + STRIP_ROWS]
            part = np.array(bands[:, rows], number, order="C")
            valid_part = finite_pixels(part) if valid is None else valid[rows]
            gray = stretch_between(part, valid_part, *self._limits)
            if self._white_is_zero:
                gray = np.where(valid_part, ~gray, 0)
            image[rows] = gray.transpose(1, 2, 0)
        return image

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """Values that become 0 and 255, from a sample of the whole raster, read part by part."""
        height, width = self.size
        rows, columns = self._file.block_shapes[0]
        columns *= max(1, 2048 // columns)
        rows *= max(1, PART_PIXELS // (rows * columns))
        step, values = self._step, []
        for y in range(0, height, rows):
            for x in range(0, width, columns):
                window = ((y, min(y + rows, height)), (x, min(x + columns, width)))
                bands = self._file.read(self._bands, window=window)
                valid = self._valid(bands, window)
                values.append(self._sample_values(bands, valid, (-y % step, -x % step)).ravel())
        return stretch_limits(np.concatenate(values))

    def _limits_of(
        self, bands: Shaped[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"] | None
    ) -> tuple[float, float]:
        """Return the values that become 0 and 255, from the decoded bands of the whole raster."""
        return stretch_limits(self._sample_values(bands, valid, (0, 0)))

    def _sample_values(
        self,
        bands: Shaped[np.ndarray, "C H W"],
        valid: Bool[np.ndarray, "H W"] | None,
        start: tuple[int, int],
    ) -> Shaped[np.ndarray, "C N"]:
        """Return the sampled values of a part of the raster.

        Args:
            bands: values of the part.
            valid: valid mask of the part; None: all finite pixels.
            start: row and column of the first sampled pixel of the part.
        """
        rows, columns = (slice(first, None, self._step) for first in start)
        bands = bands[:, rows, columns]
        valid = finite_pixels(bands) if valid is None else valid[rows, columns]
        return stretch_values(bands, valid, zero_counts=self._nodata is not None)

    @property
    def _step(self) -> int:
        height, width = self.size
        return max(1, int(np.ceil((height * width / SAMPLE_PIXELS) ** 0.5)))


def _window(tile: Tile) -> Window:
    return (tile.y0, tile.y1), (tile.x0, tile.x1)


def _shape(window: Window) -> tuple[int, int]:
    (top, bottom), (left, right) = window
    return bottom - top, right - left


def _as_dtype(nodata: Any, dtype: str) -> Any:
    """Return the no-data value in the dtype of the pixels, or None if it does not fit."""
    if nodata is None or dtype.startswith("float"):
        with np.errstate(over="ignore"):
            return None if nodata is None else np.dtype(dtype).type(nodata)
    limits = np.iinfo(dtype)
    fits = nodata == nodata // 1 and limits.min <= nodata <= limits.max
    return np.dtype(dtype).type(int(nodata)) if fits else None


def _table(colors: dict[int, tuple[int, ...]], length: int) -> UInt8[np.ndarray, "N 3"]:
    """Convert a palette to an array; indices without a colour get `IGNORE_COLOR`."""
    table = np.full((length, 3), IGNORE_COLOR, np.uint8)
    for i, color in colors.items():
        if i < length:
            table[i] = color[:3]
    return table
