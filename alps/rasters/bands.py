"""Read selected bands of a raster as stored, for networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Shaped

from alps.errors import ConfigError
from alps.rasters.gdal import gdal_session, open_raster
from alps.rasters.georeference import read_georeference
from alps.rasters.limits import check_block, check_size
from alps.rasters.orientation import tiff_orientation
from alps.rasters.pixels import none_if_all
from alps.rasters.stretch import finite_pixels
from alps.structures.georeference import Georeference
from alps.structures.tiles import Tile


def check_bands(bands: Sequence[int | str] | None) -> tuple[str, ...] | None:
    """Return the names of the selected bands.

    Args:
        bands: numbers, counted from 1, or descriptions of bands. None: no selection.

    Raises:
        ConfigError: ``bands`` is not a list of different numbers and descriptions.
    """
    if bands is None:
        return None
    valid = not isinstance(bands, str) and all(
        (type(band) is int and band > 0) or (isinstance(band, str) and band.strip())
        for band in bands
    )
    names = tuple(map(str, bands)) if valid else ()
    if not names or len({*names}) < len(names):
        raise ConfigError(
            f"dataset.bands={bands}: expected a list of different bands, by their numbers from 1 "
            "or by their descriptions in the files, such as [1,2,3,8] or [B02,B03,B04,B08]"
        )
    return names


def resolve_bands(descriptions: Sequence[str | None], names: Sequence[str]) -> list[int]:
    """Return the numbers of bands, counted from 1.

    A name is the description of a band, compared without regard to case, or else its number.

    >>> resolve_bands(["B02", "B03", None], ["b03", "1"])
    [2, 1]

    Args:
        descriptions: the description of each band of a file; None: it has none.
        names: names of the requested bands.

    Raises:
        ValueError: the file has no band of a name, or several.
    """
    lower = [None if text is None else text.strip().casefold() for text in descriptions]
    numbers = []
    for name in names:
        matches = [i for i, text in enumerate(lower, 1) if text == name.strip().casefold()]
        if not matches and name.isdecimal() and 1 <= int(name) <= len(lower):
            matches = [int(name)]
        if len(matches) != 1:
            bands = ", ".join(f"{i} ({text or '-'})" for i, text in enumerate(descriptions, 1))
            what = f"its bands {matches} are all named {name}" if matches else f"no band {name}"
            raise ValueError(
                f"{what}: expected the bands {', '.join(names)}, but the file has {bands}; select "
                "bands that all files have, or describe the bands of this file"
            )
        numbers += matches
    return numbers


class BandRaster:
    """An open TIFF or JPEG 2000 file, of which some bands are read as stored.

    Valid pixels follow GDAL's mask, as in `alps.rasters.raster.Raster`: the mask inside the file,
    alpha, or the no-data value (invalid if all bands have it). Pixels at which a selected band is
    NaN or infinite are invalid as well.

    Args:
        path: the file.
        names: descriptions or numbers of the bands (`resolve_bands`).

    Raises:
        ImageError: the file cannot be read, lacks a band, or contains complex numbers.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        self.path = Path(path)
        with gdal_session(self.path):
            self._file = open_raster(self.path)
            try:
                self._numbers = resolve_bands(self._file.descriptions, names)
                self._inspect()
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> BandRaster:
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
        """Number of bands of the file, including alpha."""
        return int(self._file.count)

    @cached_property
    def georeference(self) -> Georeference | None:
        """Georeference of the raster; None: unknown."""
        with gdal_session(self.path):
            return read_georeference(self.path, self._file)

    def read(
        self, tile: Tile | None = None
    ) -> tuple[Shaped[np.ndarray, "C H W"], Bool[np.ndarray, "H W"] | None]:
        """Read a window, or the whole raster if it is within the size limits.

        Args:
            tile: the window. None: the whole raster.

        Returns:
            The bands, and their valid mask; None: all pixels are valid.
        """
        with gdal_session(self.path):
            if tile is None:
                check_size(self.path, *self.size, self._pixel_bytes)
                tile = Tile(0, 0, self.size[1], self.size[0])
            window = ((tile.y0, tile.y1), (tile.x0, tile.x1))
            bands = self._file.read(self._numbers, window=window)
            valid = finite_pixels(bands) & (self._file.dataset_mask(window=window) > 0)
            return bands, none_if_all(valid)

    def valid(self, tile: Tile) -> Bool[np.ndarray, "H W"]:
        """Read the valid mask of a window."""
        valid = self.read(tile)[1]
        return np.ones(tile.size, bool) if valid is None else valid

    @property
    def _pixel_bytes(self) -> int:
        """Bytes of a pixel while it is decoded, with all bands of the file."""
        return int(self._file.count * np.dtype(self._file.dtypes[0]).itemsize)

    def _inspect(self) -> None:
        """Raise `ValueError` if the values cannot be used."""
        dtype = self._file.dtypes[0]
        if dtype.startswith("complex"):
            raise ValueError(
                f"it contains complex numbers ({dtype}), expected real numbers; write their "
                "magnitude into a separate file"
            )
        if self._file.driver == "GTiff" and tiff_orientation(self.path) != 1:
            raise ValueError(
                "it has an EXIF orientation, which is not applied to bands; rotate it and remove "
                "the tag"
            )
        rows, columns = self._file.block_shapes[0]
        check_block(self.path, rows, columns, self._pixel_bytes)
