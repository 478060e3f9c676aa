"""Several files with one band each, such as the assets of a STAC item, as one raster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from rasterio.enums import ColorInterp, MaskFlags

from alps.rasters.resample import Grid, warp

Window = tuple[tuple[int, int], tuple[int, int]]


class BandStack:
    """Open files as the bands of one raster, with those attributes of rasterio that ALPS reads.

    Args:
        files: open files with one band each; those of another grid are resampled. The caller
            closes them.
        names: description of each band.
        grid: grid of the raster.
    """

    driver = "stack"
    subdatasets: Sequence[str] = ()
    gcps: tuple[list[Any], None] = ([], None)

    def __init__(self, files: Sequence[Any], names: Sequence[str], grid: Grid) -> None:
        self.crs, self.transform = grid.crs, grid.transform
        self.height, self.width = grid.height, grid.width
        self.count = len(files)
        self.indexes = tuple(range(1, self.count + 1))
        self.descriptions = tuple(names)
        self.colorinterp = (ColorInterp.undefined,) * self.count
        self.block_shapes = [(min(512, grid.height), min(512, grid.width))] * self.count
        masked = any(file.mask_flag_enums[0] == [MaskFlags.per_dataset] for file in files)
        self.mask_flag_enums = ([MaskFlags.per_dataset if masked else MaskFlags.all_valid],)
        self.nodata = files[0].nodata
        self._files = [_on_grid(file, grid) for file in files]
        dtype = np.result_type(*(file.dtypes[0] for file in files))
        self.dtypes = (str(dtype),) * self.count

    def read(
        self,
        indexes: int | Sequence[int],
        window: Window,
        out: Shaped[np.ndarray, "C H W"] | None = None,
    ) -> Shaped[np.ndarray, "*C H W"]:
        """Read one band, (H, W), or several bands, (C, H, W).

        Args:
            indexes: numbers of the bands, counted from 1.
            window: rows and columns.
            out: array for several bands.

        Returns:
            The values.
        """
        if isinstance(indexes, int):
            band: np.ndarray = self._files[indexes - 1].read(1, window=window)
            return band.astype(self.dtypes[0], copy=False)
        return np.stack([self.read(index, window) for index in indexes], out=out)

    def read_masks(self, index: int, window: Window) -> UInt8[np.ndarray, "H W"]:  # noqa: ARG002
        """Return a mask of the pixels that are valid in any band; 0 is invalid."""
        masks: UInt8[np.ndarray, "C H W"] = np.stack(
            [file.read_masks(1, window=window) for file in self._files]
        )
        valid: UInt8[np.ndarray, "H W"] = masks.max(axis=0)
        return valid

    def tags(self, _band: int = 0, ns: str = "") -> dict[str, str]:  # noqa: ARG002
        """Return no metadata."""
        return {}

    def close(self) -> None:
        """Close the resampled files."""
        for file in self._files:
            file.close()


def _on_grid(file: Any, grid: Grid) -> Any:
    """Return a file, or the file resampled to a grid if its own differs."""
    own = Grid(file.crs, file.transform, file.height, file.width)
    if own == grid:
        return file
    masked = file.mask_flag_enums[0] == [MaskFlags.per_dataset]
    return warp(file, own, grid, nodata=file.nodata, masked=masked)
