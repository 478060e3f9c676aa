"""Opening of rasters: files, URIs, VRTs and assets, with their sidecar files and resolution."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags

from alps.rasters.aux_xml import AuxXml, read_aux_xml
from alps.rasters.gdal import find_driver, gdal_session, open_raster
from alps.rasters.georeference import read_georeference
from alps.rasters.limits import VRT_SUFFIX, check_block
from alps.rasters.resample import Grid, open_masked, warp
from alps.rasters.stack import BandStack
from alps.rasters.vrt import read_vrt
from alps.structures.georeference import Georeference


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An open raster.

    Args:
        file: dataset of rasterio from which pixels are read, possibly resampled.
        stored: the same as stored in the file.
        mask: open file ``.msk``; None: the raster has none, or ``file`` includes it.
        has_mask: whether ``file`` includes a mask of the whole raster.
        mask_band: band of ``file`` that is this mask. None: ``file.read_masks`` returns it; GDAL
            does so for the alpha band of two or four bands only.
        nodata: no-data value in the type of the pixels.
        descriptions: description of each band; "": none.
        georeference: georeference of ``file``.
        gsd: ground sampling distance of ``stored`` along rows and columns, m; None: unknown.
    """

    file: Any
    stored: Any
    mask: Any | None
    has_mask: bool
    mask_band: int | None = None
    nodata: Any
    descriptions: tuple[str, ...]
    georeference: Georeference | None
    gsd: tuple[float, float] | None


def open_file(
    path: Path | str, opened: ExitStack, vrt_roots: Sequence[str | Path] | None, gsd: float | None
) -> Source:
    """Open a file or URI.

    Args:
        path: the file or URI.
        opened: closes what is opened here.
        vrt_roots: folders whose files a VRT may read, besides its own. None: VRTs are refused.
        gsd: ground sampling distance to which the raster is resampled, m. None: as stored.

    Returns:
        The open raster.

    Raises:
        ValueError: the raster or one of its sidecar files is not valid.
    """
    is_vrt = isinstance(path, Path) and path.suffix.lower() == VRT_SUFFIX
    if isinstance(path, Path) and is_vrt and vrt_roots is not None:
        file = rasterio.open(read_vrt(path, vrt_roots).xml, driver="VRT", sharing=False)
    else:
        file = open_raster(path)
    opened.callback(file.close)
    sidecar = read_aux_xml(path) if isinstance(path, Path) else AuxXml()
    has_mask = file.mask_flag_enums[0] == [MaskFlags.per_dataset]
    mask = None
    if isinstance(path, Path) and not has_mask:
        mask = _open_mask(path, file, opened)
    georeference = read_georeference(path, file, sidecar)
    nodata = file.nodata if sidecar.nodata is None else sidecar.nodata
    grid = _grid(georeference, file)
    source = Source(
        file=file,
        stored=file,
        mask=mask,
        has_mask=has_mask,
        nodata=_as_dtype(nodata, file.dtypes[0]),
        descriptions=tuple(
            sidecar.descriptions.get(number, description or "")
            for number, description in enumerate(file.descriptions, 1)
        ),
        georeference=georeference,
        gsd=None if grid is None else grid.gsd,
    )
    return source if gsd is None else _resample(source, grid, gsd, path, opened)


def open_assets(
    paths: Sequence[Path | str], names: Sequence[str], opened: ExitStack, gsd: float | None
) -> Source:
    """Open files with one band each as one raster, on the grid of the first.

    Args:
        paths: file or URI of each band.
        names: name of each band.
        opened: closes what is opened here.
        gsd: ground sampling distance to which the bands are resampled, m. None: that of the first.

    Returns:
        The open raster.

    Raises:
        ValueError: the first file has no georeference.
    """
    sources = []
    for path in paths:
        with gdal_session(path):
            source = open_file(path, opened, None, None)
            if source.stored.count != 1:
                raise ValueError(
                    f"it has {source.stored.count} bands, expected one band for each of several "
                    "assets; list it as the only asset: dataset.assets=[NAME]"
                )
            if _grid(source.georeference, source.stored) is None:
                raise ValueError(f"{NO_GEOREFERENCE}, so it cannot be aligned with other assets")
            rows, columns = source.stored.block_shapes[0]
            check_block(path, rows, columns, 8)
            sources.append(source)
    stored_grid = _grid(sources[0].georeference, sources[0].stored)
    assert stored_grid is not None  # checked above
    grid = stored_grid if gsd is None else stored_grid.at(gsd)
    stack = BandStack([source.stored for source in sources], names, grid)
    opened.callback(stack.close)
    crs = sources[0].georeference.crs if sources[0].georeference else None
    return Source(
        file=stack,
        stored=stack,
        mask=None,
        has_mask=stack.mask_flag_enums[0] == [MaskFlags.per_dataset],
        nodata=_as_dtype(stack.nodata, stack.dtypes[0]),
        descriptions=stack.descriptions,
        georeference=Georeference(crs, tuple(grid.transform)[:6]),
        gsd=stored_grid.gsd,
    )


#: Problem of rasters without coordinates.
NO_GEOREFERENCE = "it has no coordinate reference system and transform"


def _resample(
    source: Source, grid: Grid | None, gsd: float, path: Path | str, opened: ExitStack
) -> Source:
    """Return the source at another ground sampling distance."""
    if grid is None or source.georeference is None:
        raise ValueError(
            f"{NO_GEOREFERENCE}, so its ground sampling distance is unknown; add them: "
            "gdal_edit.py -a_srs EPSG:CODE -a_ullr X0 Y0 X1 Y1 in.tif, or set dataset.gsd=null"
        )
    target = grid.at(gsd)
    if target == grid:
        return source
    file = source.file
    if source.mask is not None and isinstance(path, Path):
        file = open_masked(path, _mask_path(path), file)
        opened.callback(file.close)
    has_mask = source.has_mask or source.mask is not None
    warped = warp(
        file,
        grid,
        target,
        nodata=None if source.nodata is None else float(source.nodata),
        masked=has_mask,
        nearest="palette" in [kind.name for kind in source.stored.colorinterp],
    )
    opened.callback(warped.close)
    return replace(
        source,
        file=warped,
        mask=None,
        has_mask=has_mask,
        mask_band=warped.count if has_mask else None,
        georeference=replace(source.georeference, transform=tuple(target.transform)[:6]),
    )


def _grid(georeference: Georeference | None, file: Any) -> Grid | None:
    """Return the grid of an open raster, or None if it has no CRS or transform."""
    if georeference is None or georeference.crs is None or georeference.transform is None:
        return None
    crs = rasterio.CRS.from_wkt(georeference.crs)
    return Grid(crs, rasterio.Affine(*georeference.transform), file.height, file.width)


def _mask_path(path: Path) -> Path:
    """Return the path of the separate mask of a raster."""
    return path.with_name(f"{path.name}.msk")


def _open_mask(path: Path, raster: Any, opened: ExitStack) -> Any | None:
    """Open the separate mask of a raster, or return None if there is none."""
    path = _mask_path(path)
    try:
        with path.open("rb") as head:
            driver = find_driver(head.read(16))
    except FileNotFoundError:
        return None
    remedy = "delete it, or write the mask into the raster: gdal_translate a.tif out.tif"
    if driver != "GTiff":
        raise ValueError(f"its mask {path.name} is not a TIFF; {remedy}")
    mask = open_raster(path)
    opened.callback(mask.close)
    size, expected = (mask.height, mask.width), (raster.height, raster.width)
    if size != expected:
        raise ValueError(
            f"its mask {path.name} has {size[0]} x {size[1]} pixels, expected {expected[0]} x "
            f"{expected[1]}; {remedy}"
        )
    rows, columns = mask.block_shapes[0]
    check_block(path, rows, columns, mask.count * np.dtype(mask.dtypes[0]).itemsize)
    return mask


def _as_dtype(nodata: Any, dtype: str) -> Any:
    """Return the no-data value in the dtype of the pixels, or None if it does not fit."""
    if nodata is None or dtype.startswith(("float", "complex")):
        with np.errstate(over="ignore"):
            return None if nodata is None else np.dtype(dtype).type(nodata)
    limits = np.iinfo(dtype)
    fits = nodata == nodata // 1 and limits.min <= nodata <= limits.max
    return np.dtype(dtype).type(int(nodata)) if fits else None
