"""GeoTIFFs of any size, read and written window by window; needs rasterio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import tifffile
from jaxtyping import Bool, Integer, Shaped, UInt8

from alps.errors import ImageError, MissingPackage
from alps.geometry import Tile
from alps.images.read import stretch_between, stretch_limits
from alps.palette import IGNORE_COLOR

#: Tags that place a TIFF on Earth: pixel scale, affine transform, coordinate reference system.
GEO_TAGS = (33550, 34264, 34735)
#: Pixels looked at to find the percentiles that become 0 and 255.
SAMPLE_PIXELS = 1 << 21

#: Rasterio's form of a tile: (rows, columns).
Window = tuple[tuple[int, int], tuple[int, int]]
#: Writes the labels of one window.
Write = Callable[[Tile, Integer[np.ndarray, "H W"]], None]


def is_geotiff(path: Path) -> bool:
    """Whether a TIFF knows where on Earth it lies, by its tags or by a world file beside it."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            tags = tiff.pages.first.tags
            return any(tag in tags for tag in GEO_TAGS) or path.with_suffix(".tfw").exists()
    except Exception:  # damaged: whoever reads it as an image says so
        return False


class GeoTiff:
    """A raster that is read window by window, as `read_image` would show it as a whole.

    One or two bands are gray, of three or four the first three are red, green and blue. 8-bit
    values stay as they are. All else is stretched linearly between two percentiles; a raster need
    not fit into memory, so these are taken from an evenly thinned picture of all of it with
    `SAMPLE_PIXELS` pixels, and are the same for every window.

    Raises:
        ImageError: the file cannot be read, or has more than four bands.
        MissingPackage: rasterio is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import rasterio
        except ImportError as error:
            raise MissingPackage(
                f"{path} is a GeoTIFF, which rasterio reads, and that is not installed: "
                "pip install 'alps[geo]'"
            ) from error
        self._rasterio = rasterio
        self.path = path
        with self._reading():
            self._file = rasterio.open(path)
            if self._file.count > 4:
                raise ValueError(
                    f"it has {self._file.count} bands, expected 1 to 4; write red, green and blue "
                    "into a file of their own"
                )
            self._bands = [1, 2, 3] if self._file.count >= 3 else [1]
            self._deep = self._file.dtypes[0] != "uint8"
            self._limits = self._percentiles() if self._deep else (0, 255)

    def __enter__(self) -> GeoTiff:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self._file.height, self._file.width

    def read(self, tile: Tile) -> UInt8[np.ndarray, "3 H W"]:
        """Red, green and blue within a window; where there is no data, deep rasters are black."""
        with self._reading():
            image, valid = self._pixels(_window(tile))
            if self._deep:
                image = self._stretch(image, valid)
            elif self._file.colorinterp[0] == self._rasterio.enums.ColorInterp.palette:
                colors = self._file.colormap(1)
                table = np.array([colors.get(i, IGNORE_COLOR)[:3] for i in range(256)], np.uint8)
                image = np.moveaxis(table[image[0]], 2, 0)
            return np.repeat(image, 3, axis=0) if len(image) == 1 else image

    def valid(self, tile: Tile) -> Bool[np.ndarray, "H W"]:
        """Where the raster has data: by its nodata value, its mask or its alpha band.

        In deep rasters NaN is no data, and so is 0 in all bands where no other value is declared.
        """
        with self._reading():
            return self._pixels(_window(tile))[1]

    @contextmanager
    def index_map(
        self, path: Path, colors: Sequence[tuple[int, int, int]], ignore_index: int
    ) -> Iterator[Write]:
        """Create a GeoTIFF of class indices with this raster's size and place on Earth.

        Args:
            path: the file to write.
            colors: colour of class i at place i.
            ignore_index: the value that means no data; 255 makes it uint8, any higher uint16.
        """
        points, system = self._file.gcps
        place = (
            {"gcps": points, "crs": system}
            if points
            else {"crs": self._file.crs, "transform": self._file.transform}
        )
        height, width = self.size
        with self._rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=1,
            dtype="uint8" if ignore_index <= 255 else "uint16",
            nodata=ignore_index,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            compress="deflate",
            BIGTIFF="IF_SAFER",
            **place,
        ) as file:
            file.write_colormap(1, {**dict(enumerate(colors)), ignore_index: IGNORE_COLOR})
            yield lambda tile, labels: file.write(labels, 1, window=_window(tile))

    def _pixels(
        self, window: Window | None = None, size: tuple[int, int] | None = None
    ) -> tuple[Shaped[np.ndarray, "C H W"], Bool[np.ndarray, "H W"]]:
        """The bands as stored and where they hold data, of a window or the whole, thinned to size.

        What counts as data follows the file's mask and, in deep rasters, `stretch`.
        """
        shape = None if size is None else (len(self._bands), *size)
        image = self._file.read(self._bands, window=window, out_shape=shape)
        valid = self._file.dataset_mask(window=window, out_shape=size) > 0
        if self._deep:
            nodata = 0.0 if self._file.nodata is None else self._file.nodata
            with np.errstate(over="ignore"):
                valid &= np.isfinite(image).all(axis=0) & (image != nodata).any(axis=0)
        return image, valid

    def _percentiles(self) -> tuple[float, float]:
        """The values that become 0 and 255."""
        height, width = self.size
        thin = max(1.0, (height * width / SAMPLE_PIXELS) ** 0.5)
        image, valid = self._pixels(size=(max(1, int(height / thin)), max(1, int(width / thin))))
        values = image[:, valid].astype(np.promote_types(image.dtype, np.float32))
        if not values.size:
            return 0.0, 1.0
        return stretch_limits(values)

    def _stretch(
        self, image: Shaped[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"]
    ) -> UInt8[np.ndarray, "C H W"]:
        bands = image.astype(np.promote_types(image.dtype, np.float32))
        return stretch_between(bands, valid, *self._limits)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # GDAL raises much on damaged files
            raise ImageError(f"cannot read {self.path}: {error or type(error).__name__}") from error


def _window(tile: Tile) -> Window:
    return (tile.y0, tile.y1), (tile.x0, tile.x1)
