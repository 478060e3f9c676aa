"""Read the pixels and the valid mask of a raster, as a whole or by window."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from rasterio.enums import ColorInterp

from alps.rasters.band_names import Band, guess_rgb, is_alpha, resolve_bands
from alps.rasters.gdal import gdal_session, page_size
from alps.rasters.limits import check_block, check_size
from alps.rasters.pixels import Pixels, interleave
from alps.rasters.remote import to_source
from alps.rasters.source import open_assets, open_file
from alps.rasters.stretch import finite_pixels, stretch_between, stretch_limits, stretch_values
from alps.rasters.valid_mask import ValidMask, Window
from alps.rasters.view import View
from alps.structures.georeference import Georeference
from alps.structures.palette import IGNORE_COLOR
from alps.structures.tiles import Tile

#: Number of pixels sampled for the percentiles that become 0 and 255: every n-th row and column.
SAMPLE_PIXELS = 1 << 21
#: Number of pixels decoded at a time for the sample, and of rows stretched at a time.
PART_PIXELS, STRIP_ROWS = 1 << 22, 256
#: Command that extracts three bands of a file with more.
TO_RGB = "gdal_translate -b 1 -b 2 -b 3 in.tif out.tif"


class Raster:
    """An open TIFF or JPEG 2000 file.

    One or two bands are read as gray. If there are three or four bands, the first three are read as
    red, green and blue, unless the file declares which bands are. An alpha band does not count as
    one of these. Palettes are converted to colours. 8-bit values are kept. Other values are
    stretched linearly between two percentiles of the whole raster, which are equal for all windows
    (`alps.rasters.stretch`) and come from a regular sample if there are more than `SAMPLE_PIXELS`
    pixels. A view chooses other bands, limits or resolutions.

    Valid pixels follow GDAL's mask: the mask inside the file or in its file ``.msk``, else alpha (0
    is invalid) and the no-data value (invalid if all bands have it). NaN and infinity in any band
    are invalid as well. The value 0 is valid unless it is declared as no data, because dark water
    may be 0 too. With a view, these rules concern only the bands of the view.

    Sidecar files of local rasters are read: ``.aux.xml``, ``.msk`` and world files.

    Args:
        path: the file or URI (`alps.rasters.remote`), or one for each of ``view.assets``.
        view: bands, stretch and resolution. None: as described above.
        vrt_roots: folders whose files a VRT may read, besides its own. None: VRTs are refused.

    Raises:
        ImageError: the file cannot be read, contains complex numbers, or has several pages of the
            same size; without a view: it has more than four bands; with a view: it lacks a band.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        view: View | None = None,
        *,
        vrt_roots: Sequence[str | Path] | None = None,
    ) -> None:
        paths = [to_source(p) for p in ([path] if isinstance(path, str | Path) else path)]
        self.path = paths[0]
        self._view = view
        gsd = None if view is None else view.gsd
        with gdal_session(self.path), ExitStack() as opened:
            if view is not None and view.assets is not None and len(paths) > 1:
                self._source = open_assets(paths, view.assets, opened, gsd)
            else:
                self._source = open_file(self.path, opened, vrt_roots, gsd)
            self._file, self._stored = self._source.file, self._source.stored
            self._inspect()
            self._opened = opened.pop_all()

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with gdal_session(self.path):
            self._opened.close()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self._file.height, self._file.width

    @property
    def count(self) -> int:
        """Number of bands, including alpha."""
        return int(self._stored.count)

    @property
    def is_tiff(self) -> bool:
        """Whether the file is a TIFF rather than JPEG 2000."""
        return bool(self._stored.driver == "GTiff")

    @property
    def bands(self) -> tuple[Band, ...]:
        """Descriptions of all bands, including alpha."""
        interpretations = self._stored.colorinterp
        if self._view is not None and self._view.assets is not None and len(interpretations) == 1:
            names = self._view.assets
        else:
            names = self._source.descriptions
        return tuple(
            Band(number, name, interpretation.name, dtype)
            for number, (name, interpretation, dtype) in enumerate(
                zip(names, interpretations, self._stored.dtypes, strict=True), 1
            )
        )

    @property
    def georeference(self) -> Georeference | None:
        """Georeference of the raster as it is read; None: unknown."""
        return self._source.georeference

    @property
    def stored_gsd(self) -> float | None:
        """Ground sampling distance of the file, m, the mean of both directions; None: unknown."""
        gsd = self._source.gsd
        return None if gsd is None else sum(gsd) / 2

    def read(self, tile: Tile | None = None) -> Pixels:
        """Read a window, or the whole raster if it is within the size limits.

        Invalid pixels keep their colours in 8-bit rasters and become black in rasters of more bits.

        Args:
            tile: the window. None: the whole raster.

        Returns:
            The image, its valid mask and the bands of the view.
        """
        with gdal_session(self.path):
            if tile is None:
                check_size(self.path, *self.size, max(self._pixel_bytes, 3))
            window = _window(tile or Tile(0, 0, self.size[1], self.size[0]))
            bands, valid = self._read_valid(window)
            if bands is None:
                return self._empty(window)
            if self._stretched:
                if tile is None and self._limits_of_view is None:  # avoids reading it again
                    self._percentiles = self._percentiles_of(bands, valid)
                image = self._stretch(bands, valid)
            elif len(bands) == 3:
                image = interleave([*bands])
            else:
                image = self._to_rgb(bands[0])
            networks = self._file.read(self._networks, window=window) if self._networks else None
            return Pixels(image, valid, networks, self.georeference)

    def sample_values(self, tile: Tile) -> Shaped[np.ndarray, "C N"]:
        """Read the values of a window from which `stretch_limits` computes percentiles.

        Args:
            tile: the window.

        Returns:
            The valid values of each band that becomes red, green, blue or gray.
        """
        with gdal_session(self.path):
            window = _window(tile)
            bands, valid = self._read_valid(window)
            if bands is None:
                return self._fill(len(self._bands), ((0, 0), (0, 0))).reshape(len(self._bands), 0)
            valid = finite_pixels(bands) if valid is None else valid
            return stretch_values(bands, valid, zero_counts=self._nodata is not None)

    def read_bands(
        self, tile: Tile
    ) -> tuple[Shaped[np.ndarray, "C H W"], Bool[np.ndarray, "H W"] | None]:
        """Read the bands that the view has for networks, as stored, without the 8-bit image.

        Args:
            tile: the window.

        Returns:
            The bands, and their valid mask; None: all pixels are valid.
        """
        with gdal_session(self.path):
            window = _window(tile)
            bands, valid = self._read_valid(window)
            if bands is None:
                return self._fill(len(self._networks), window), valid
            return self._file.read(self._networks, window=window), valid

    def valid(self, tile: Tile) -> Bool[np.ndarray, "H W"]:
        """Read the valid mask of a window."""
        with gdal_session(self.path):
            window = _window(tile)
            valid = (
                self._read_valid(window)[1]
                if self._valid.depends_on_values
                else self._valid.declared(window)
            )
            return np.ones(_shape(window), bool) if valid is None else valid

    def read_first_band(self) -> Shaped[np.ndarray, "H W"]:
        """Read the first band as stored."""
        with gdal_session(self.path):
            check_size(self.path, *self.size, max(self._pixel_bytes, 3))
            values: np.ndarray = self._file.read(1)
            return values

    def _inspect(self) -> None:
        """Determine the meaning of the bands; raise `ValueError` if they cannot become RGB."""
        file = self._stored
        dtype = file.dtypes[0]
        if dtype.startswith("complex"):
            raise ValueError(
                f"it contains complex numbers ({dtype}), expected real numbers; compute "
                'their magnitude: gdal_calc.py -A in.tif --calc="abs(A)" --type=Float32 '
                "--outfile=out.tif"
            )
        self._nodata = self._source.nodata
        # In a damaged JPEG 2000 file GDAL would search for this tag forever.
        tags = file.tags(ns="IMAGE_STRUCTURE") if self.is_tiff else {}
        self._white_is_zero = tags.get("MINISWHITE") == "YES"
        self._bits = int(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
        self._networks: list[int] = []
        self._limits_of_view: tuple[tuple[float, float], ...] | None = None
        if self._view is None:
            self._choose_bands()
        else:
            self._apply_view(self._view)
        self._valid = ValidMask(self._source, self._bands, self._colors, self._alpha)
        interpretation = file.colorinterp[self._bands[0] - 1]
        self._palette = None
        if interpretation == ColorInterp.palette and dtype in ("uint8", "uint16"):
            length = 1 << (8 if dtype == "uint8" else 16)
            self._palette = _table(file.colormap(self._bands[0]), length)
        self._stretched = self._palette is None and (
            dtype != "uint8" or self._limits_of_view is not None
        )
        self._check_pages()
        rows, columns = file.block_shapes[0]
        check_block(self.path, rows, columns, self._pixel_bytes)

    def _choose_bands(self) -> None:
        """Choose the bands that become RGB or gray, for a raster without a view."""
        interpretation = dict(enumerate(self._stored.colorinterp, 1))
        alpha = [i for i, kind in interpretation.items() if kind == ColorInterp.alpha]
        colors = [i for i in interpretation if i not in alpha]
        if not 1 <= len(colors) <= 4 or len(alpha) > 1:
            raise ValueError(
                f"it has {self.count} bands, expected 1 to 4; write red, green and blue into a "
                f"separate file: {TO_RGB}"
            )
        self._alpha = alpha[0] if alpha else None
        self._colors = colors
        self._bands = self._declared_rgb(colors)

    def _declared_rgb(self, colors: list[int]) -> list[int]:
        """Return the bands that are declared as red, green and blue, or else the first bands."""
        kinds = self._stored.colorinterp
        declared = [
            i
            for kind in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            for i in colors
            if kinds[i - 1] == kind
        ]
        return declared if len(declared) == 3 else colors[: 3 if len(colors) >= 3 else 1]

    def _apply_view(self, view: View) -> None:
        """Choose the bands and limits of a view."""
        bands = self.bands
        if view.rgb is None:
            try:
                self._bands = [*resolve_bands(bands, guess_rgb(bands).bands)]
            except ValueError:
                self._bands = self._declared_rgb([b.number for b in bands if not is_alpha(b)])
        else:
            self._bands = [*resolve_bands(bands, view.rgb)]
        if len(self._bands) not in (1, 3):
            raise ValueError(f"rgb has {len(self._bands)} bands, expected 3, or 1 for gray")
        self._networks = [*resolve_bands(bands, view.bands or ())]
        self._colors = sorted({*self._bands, *self._networks})
        alpha = [b.number for b in bands if is_alpha(b) and b.number not in self._colors]
        self._alpha = alpha[0] if alpha else None
        if view.limits is not None:
            if len(view.limits) not in {1, len(self._bands)}:
                raise ValueError(
                    f"there are {len(view.limits)} pairs of limits for {len(self._bands)} bands, "
                    "expected one pair for each band, or one for all"
                )
            self._limits_of_view = view.limits * (len(self._bands) // len(view.limits))

    @property
    def _pixel_bytes(self) -> int:
        """Bytes of a pixel while it is decoded; JPEG 2000 takes 32 bits per value or more."""
        value = np.dtype(self._stored.dtypes[0]).itemsize
        is_jpeg_2000 = self._stored.driver == "JP2OpenJPEG"
        return int(self._stored.count * (max(value, 4) if is_jpeg_2000 else value))

    def _check_pages(self) -> None:
        """Raise `ValueError` if the pages may be bands; pages of different sizes are ignored."""
        pages = self._stored.subdatasets
        size = self._stored.height, self._stored.width
        if len(pages) > 1 and page_size(pages[1]) == size:
            raise ValueError(
                f"it has {len(pages)} pages of the same size, expected 1 to 4 bands in one page; "
                "convert them to bands: gdal_merge.py -separate -o out.tif GTIFF_DIR:1:in.tif "
                "GTIFF_DIR:2:in.tif GTIFF_DIR:3:in.tif"
            )

    def _read_valid(
        self, window: Window
    ) -> tuple[Shaped[np.ndarray, "C H W"] | None, Bool[np.ndarray, "H W"] | None]:
        """Read the bands that become RGB or gray.

        Returns:
            The bands, None if a view has no valid pixel in the window; and the valid mask.
        """
        valid = self._valid.declared(window)
        if self._has_none(valid):
            return None, valid
        bands = self._file.read(self._bands, window=window)
        valid = self._valid.of(bands, window, valid)
        return None if self._has_none(valid) else bands, valid

    def _has_none(self, valid: Bool[np.ndarray, "H W"] | None) -> bool:
        """Return whether a view has no valid pixel; without a view, colours are kept."""
        return self._view is not None and valid is not None and not valid.any()

    def _fill(self, n: int, window: Window) -> Shaped[np.ndarray, "C H W"]:
        """Return ``n`` bands of a window without valid pixels."""
        dtype = self._file.dtypes[0]
        missing = np.nan if dtype.startswith("float") else 0
        return np.full(
            (n, *_shape(window)), missing if self._nodata is None else self._nodata, dtype
        )

    def _empty(self, window: Window) -> Pixels:
        """Return the pixels of a window without valid pixels."""
        shape = _shape(window)
        return Pixels(
            np.zeros((*shape, 3), np.uint8),
            np.zeros(shape, bool),
            self._fill(len(self._networks), window) if self._networks else None,
            self.georeference,
        )

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
        return interleave([band] * 3)

    def _stretch(
        self, bands: Shaped[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"] | None
    ) -> UInt8[np.ndarray, "H W 3"]:
        image = np.empty((*bands.shape[1:], 3), np.uint8)
        number = np.promote_types(bands.dtype, np.float32)
        for top in range(0, len(image), STRIP_ROWS):
            rows = np.s_[top : top + STRIP_ROWS]
            part = np.array(bands[:, rows], number, order="C")
            valid_part = finite_pixels(part) if valid is None else valid[rows]
            gray = self._stretch_part(part, valid_part)
            if self._white_is_zero:
                gray = np.where(valid_part, ~gray, 0)
            image[rows] = interleave([*np.repeat(gray, 3 // len(gray), axis=0)])
        return image

    def _stretch_part(
        self, part: Float[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"]
    ) -> UInt8[np.ndarray, "C H W"]:
        """Stretch some rows, all bands together or each band between its own limits."""
        if self._limits_of_view is None:
            return stretch_between(part, valid, *self._percentiles)
        return np.concatenate(
            [
                stretch_between(band, valid, low, high)
                for band, (low, high) in zip(
                    np.split(part, len(part)), self._limits_of_view, strict=True
                )
            ]
        )

    @cached_property
    def _percentiles(self) -> tuple[float, float]:
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
                valid = self._valid.of(bands, window, self._valid.declared(window))
                values.append(self._sample_values(bands, valid, (-y % step, -x % step)).ravel())
        return stretch_limits(np.concatenate(values))

    def _percentiles_of(
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


def _table(colors: dict[int, tuple[int, ...]], length: int) -> UInt8[np.ndarray, "N 3"]:
    """Convert a palette to an array; indices without a colour get `IGNORE_COLOR`."""
    table = np.full((length, 3), IGNORE_COLOR, np.uint8)
    for i, color in colors.items():
        if i < length:
            table[i] = color[:3]
    return table
