"""A raster as a source of pixels: the whole of it or a window, and which of its pixels are data."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from rasterio.enums import ColorInterp, MaskFlags

from alps.rasters.gdal import gdal_session, open_raster, page_size
from alps.rasters.limits import check_block, check_size
from alps.rasters.pixels import Pixels, none_if_all
from alps.rasters.place import Place, find_place
from alps.rasters.stretch import counted, finite, stretch_between, stretch_limits
from alps.structures.palette import IGNORE_COLOR
from alps.structures.tiles import Tile

#: Pixels looked at to find the percentiles that become 0 and 255: every n-th of every n-th row.
SAMPLE_PIXELS = 1 << 21
#: Pixels that are decoded at once on the way to these, and rows that are stretched at once.
PART, STRIP = 1 << 22, 256
#: How a file with more bands becomes one that can be read.
TO_RGB = "gdal_translate -b 1 -b 2 -b 3 in.tif out.tif"

Window = tuple[tuple[int, int], tuple[int, int]]  # rasterio's form of a tile: (rows, columns)


class Raster:
    """A TIFF or JPEG 2000 file, opened.

    One or two bands are gray, of three or four the first three are red, green and blue, unless the
    file says which ones are; a band of alpha comes on top and is no colour. Palettes become
    colours. 8-bit values stay as they are. All else is stretched linearly between two percentiles
    of the whole raster, the same for every window (`alps.rasters.stretch`); of more than
    `SAMPLE_PIXELS` pixels, an even sample is looked at.

    Pixels are data unless GDAL's mask says otherwise: the mask within the file, else its alpha (0)
    and its no-data value (in all bands). NaN and infinity in any band are no data either. A value
    of 0 that is not declared to be no data is data: dark water is as dark as a border.

    Args:
        path: the file.

    Raises:
        ImageError: it cannot be read, or has complex numbers, more bands, or more pages of one
            size.
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
        trace: TracebackType | None,
    ) -> None:
        with gdal_session(self.path):
            self._file.close()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._file.height, self._file.width

    @property
    def count(self) -> int:
        """The number of bands, with alpha."""
        return int(self._file.count)

    @property
    def is_tiff(self) -> bool:
        """Whether it is a TIFF, and not JPEG 2000."""
        return bool(self._file.driver == "GTiff")

    @cached_property
    def place(self) -> Place | None:
        """Where on Earth the raster lies; None: nobody knows."""
        with gdal_session(self.path):
            return find_place(self.path, self._file)

    def read(self, tile: Tile | None = None) -> Pixels:
        """Return the pixels of a window; None: of the whole, if it fits into memory.

        Colours are given as they are under a mask, too; in deep rasters they are black there.
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
                if tile is None:  # decoded already, so nothing is read twice
                    self._limits = self._limits_of(bands, valid)
                return Pixels(self._stretch(bands, valid), valid)
            return Pixels(self._show(bands[0]), valid)

    def valid(self, tile: Tile) -> Bool[np.ndarray, "H W"]:
        """Return which pixels of a window are data."""
        with gdal_session(self.path):
            window = _window(tile)
            needed = self._nodata is not None or self._file.dtypes[0].startswith("float")
            bands = self._file.read(self._bands if needed else self._bands[:1], window=window)
            valid = self._valid(bands, window)
            return np.ones(_shape(window), bool) if valid is None else valid

    def numbers(self) -> Shaped[np.ndarray, "H W"]:
        """Return the values of the first band as they are stored."""
        with gdal_session(self.path):
            check_size(self.path, *self.size, max(self._pixel_bytes, 3))
            found: np.ndarray = self._file.read(1)
            return found

    def _inspect(self) -> None:
        """Find out what the bands mean; raise `ValueError` for what cannot be shown."""
        file = self._file
        dtype = file.dtypes[0]
        if dtype.startswith("complex"):
            raise ValueError(
                f"it holds complex numbers ({dtype}), expected real ones; write their magnitude: "
                'gdal_calc.py -A in.tif --calc="abs(A)" --type=Float32 --outfile=out.tif'
            )
        meaning = dict(enumerate(file.colorinterp, 1))
        alpha = [i for i, kind in meaning.items() if kind == ColorInterp.alpha]
        colors = [i for i in meaning if i not in alpha]
        if not 1 <= len(colors) <= 4 or len(alpha) > 1:
            raise ValueError(
                f"it has {file.count} bands, expected 1 to 4; write red, green and blue into a "
                f"file of their own: {TO_RGB}"
            )
        named = [
            i
            for kind in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            for i in colors
            if meaning[i] == kind
        ]
        self._alpha = alpha[0] if alpha else None
        self._colors = colors
        self._bands = named if len(named) == 3 else colors[: 3 if len(colors) >= 3 else 1]
        self._deep = dtype != "uint8"
        self._nodata = _as_dtype(file.nodata, dtype)
        self._mask = file.mask_flag_enums[0] == [MaskFlags.per_dataset]
        # Of a damaged JPEG 2000 file GDAL would look for this without end.
        tags = file.tags(ns="IMAGE_STRUCTURE") if self.is_tiff else {}
        self._white_is_zero = tags.get("MINISWHITE") == "YES"
        self._bits = int(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
        self._palette = None
        if meaning[colors[0]] == ColorInterp.palette and dtype in ("uint8", "uint16"):
            self._palette = _table(file.colormap(colors[0]), 1 << (16 if self._deep else 8))
            self._deep = False
        self._check_pages()
        rows, columns = file.block_shapes[0]
        check_block(self.path, rows, columns, self._pixel_bytes)

    @property
    def _pixel_bytes(self) -> int:
        """Of a pixel while it is decoded; JPEG 2000 takes 32 bits for every value."""
        value = np.dtype(self._file.dtypes[0]).itemsize
        return int(self._file.count * (value if self.is_tiff else max(value, 4)))

    def _check_pages(self) -> None:
        """Refuse pages that may be bands; others (another scene, a preview) are not looked at."""
        pages = self._file.subdatasets
        if len(pages) > 1 and page_size(pages[1]) == self.size:
            raise ValueError(
                f"it has {len(pages)} pages of one size, expected 1 to 4 bands in one page; make "
                "bands of them: gdal_merge.py -separate -o out.tif GTIFF_DIR:1:in.tif "
                "GTIFF_DIR:2:in.tif GTIFF_DIR:3:in.tif"
            )

    def _valid(
        self, bands: Shaped[np.ndarray, "C H W"], window: Window
    ) -> Bool[np.ndarray, "H W"] | None:
        """Return which pixels are data; None: all.

        Args:
            bands: the values of `_bands` there.
            window: where.
        """
        if self._mask:
            valid = self._file.read_masks(1, window=window) > 0
        else:
            valid = np.ones(bands.shape[1:], bool)
            if self._alpha is not None:
                valid &= self._file.read(self._alpha, window=window) != 0
            if self._nodata is not None:
                found = np.zeros_like(valid)
                for band in self._with_others(bands, window):
                    found |= band != self._nodata
                valid &= found
        if bands.dtype.kind == "f":
            for band in self._with_others(bands, window):
                valid &= np.isfinite(band)
        return none_if_all(valid)

    def _with_others(
        self, bands: Shaped[np.ndarray, "C H W"], window: Window
    ) -> list[Shaped[np.ndarray, "H W"]]:
        """The bands, and those that no colour comes from."""
        others = [i for i in self._colors if i not in self._bands]
        return [*bands, *(self._file.read(i, window=window) for i in others)]

    def _show(self, band: Shaped[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
        """Turn a palette's indices or gray of up to 8 bits into colours."""
        if self._palette is not None:
            image: np.ndarray = self._palette[band]
            return image
        if self._bits < 8:
            most = (1 << self._bits) - 1
            table = np.rint(np.arange(256).clip(max=most) * (255 / most)).astype(np.uint8)
            band = table[band]
        if self._white_is_zero:
            band = ~band
        return np.repeat(band[..., None], 3, axis=2)

    def _stretch(
        self, bands: Shaped[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"] | None
    ) -> UInt8[np.ndarray, "H W 3"]:
        image = np.empty((*bands.shape[1:], 3), np.uint8)
        number = np.promote_types(bands.dtype, np.float32)
        for top in range(0, len(image), STRIP):
            rows = np.s_[top : top + STRIP]
            part = np.array(bands[:, rows], number, order="C")
            here = finite(part) if valid is None else valid[rows]
            gray = stretch_between(part, here, *self._limits)
            if self._white_is_zero:
                gray = np.where(here, ~gray, 0)
            image[rows] = gray.transpose(1, 2, 0)
        return image

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """The values that become 0 and 255, from a sample of the whole, read part by part."""
        height, width = self.size
        rows, columns = self._file.block_shapes[0]
        columns *= max(1, 2048 // columns)
        rows *= max(1, PART // (rows * columns))
        step, values = self._step, []
        for y in range(0, height, rows):
            for x in range(0, width, columns):
                window = ((y, min(y + rows, height)), (x, min(x + columns, width)))
                bands = self._file.read(self._bands, window=window)
                valid = self._valid(bands, window)
                values.append(self._counted(bands, valid, (-y % step, -x % step)).ravel())
        return stretch_limits(np.concatenate(values))

    def _limits_of(
        self, bands: Shaped[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"] | None
    ) -> tuple[float, float]:
        """The same, out of all bands in memory."""
        return stretch_limits(self._counted(bands, valid, (0, 0)))

    def _counted(
        self,
        bands: Shaped[np.ndarray, "C H W"],
        valid: Bool[np.ndarray, "H W"] | None,
        start: tuple[int, int],
    ) -> Shaped[np.ndarray, "C N"]:
        """The sample's values in a part of the raster whose first pixel of it is ``start``."""
        rows, columns = (slice(first, None, self._step) for first in start)
        bands = bands[:, rows, columns]
        valid = finite(bands) if valid is None else valid[rows, columns]
        return counted(bands, valid, zero_counts=self._nodata is not None)

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
    """The value that means no data as the pixels hold it; None: they cannot."""
    if nodata is None or dtype.startswith("float"):
        with np.errstate(over="ignore"):
            return None if nodata is None else np.dtype(dtype).type(nodata)
    limits = np.iinfo(dtype)
    whole = nodata == nodata // 1 and limits.min <= nodata <= limits.max
    return np.dtype(dtype).type(int(nodata)) if whole else None


def _table(colors: dict[int, tuple[int, ...]], length: int) -> UInt8[np.ndarray, "N 3"]:
    """A palette as an array; what it does not name has the colour of what is ignored."""
    table = np.full((length, 3), IGNORE_COLOR, np.uint8)
    for i, color in colors.items():
        if i < length:
            table[i] = color[:3]
    return table
