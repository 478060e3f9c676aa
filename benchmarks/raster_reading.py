"""Compare reading of windows with loops over rasterio's functions, for several kinds of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import UInt8

from alps.images.geo.rasters import Rasters
from alps.rasters.gdal import OPTIONS
from benchmarks.measure import Spread, interleave, markdown, ratio
from benchmarks.raster_files import window_of

#: rasterio's options for each kind of file; masks and alpha exclude dark pixels.
KINDS: dict[str, dict[str, Any]] = {
    "RGB with a no-data value": {"nodata": 0},
    "RGB, all valid": {"nodata": None},
    "RGB, band by band": {"nodata": 0, "interleave": "band"},
    "RGB and alpha": {"nodata": None, "count": 4, "alpha": "yes"},
    "RGB with a mask in the file": {"nodata": None},
    "gray": {"nodata": 0, "count": 1, "photometric": "MINISBLACK"},
    "16 bits, fixed stretch": {"nodata": 0, "dtype": "uint16"},
}
MASKED, DEEP = "RGB with a mask in the file", "16 bits, fixed stretch"
LOW, HIGH = 100, 50_000  # of the fixed stretch
DARK = 40  # maximum of excluded pixels


def compare_reading(path: Path, folder: Path, rounds: int) -> str:
    """Return a table of CPU ms per window, all with ALPS' settings of GDAL.

    Args:
        path: an RGB raster, of which the files are copies.
        folder: folder for the files.
        rounds: number of rounds.
    """
    rows = []
    for i, kind in enumerate(KINDS):
        file = folder / f"reading/{i}/a.tif"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            copy_as(kind, path, file)
        rows.append([kind, *measure_reading(kind, file, rounds)])
    columns = ["", "ours", "bands alone", "speed", "image and valid mask", "speed"]
    return markdown(columns, rows)


def copy_as(kind: str, path: Path, copy: Path) -> None:
    """Write a copy of an RGB raster with other options."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path) as source:
        profile = {**source.profile, "photometric": "RGB", **KINDS[kind]}
        scale = 257 if kind == DEEP else 1
        with rasterio.open(copy, "w", **profile) as file:
            for _, window in source.block_windows(1):
                rgb = source.read(window=window)
                opaque = np.where(rgb.max(axis=0) > DARK, 255, 0).astype(np.uint8)
                bands = np.concatenate([rgb, opaque[None]])[: file.count]
                file.write(bands.astype(file.dtypes[0]) * scale, window=window)
                if kind == MASKED:
                    file.write_mask(opaque, window=window)


def measure_reading(kind: str, path: Path, rounds: int) -> list[Spread]:
    """Return CPU ms per window: ours, the bands alone, speed, the same work, speed."""
    images = Rasters(root=str(path), stretch=[[LOW, HIGH]] if kind == DEEP else "collection")
    records = images.records()
    windows = [window_of(record.window) for record in records]

    def ours() -> None:
        for record in records:
            images.read(record)

    def bands() -> None:
        with rasterio.Env(**OPTIONS), rasterio.open(path) as file:
            for window in windows:
                file.read(window=window)

    def image() -> None:
        with rasterio.Env(**OPTIONS), rasterio.open(path) as file:
            for window in windows:
                to_image(file.read(window=window)[:3])
                file.dataset_mask(window=window)

    peers = {"ours": ours, "bands": bands, "image": image}
    seconds = interleave(peers, rounds)[1]
    each = {name: [1000 * s / len(windows) for s in spent] for name, spent in seconds.items()}
    return [
        Spread.of(each["ours"]),
        Spread.of(each["bands"]),
        ratio(each["bands"], each["ours"]),
        Spread.of(each["image"]),
        ratio(each["image"], each["ours"]),
    ]


def to_image(bands: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Return bands as an RGB image of 8 bits, as a script would do it with NumPy."""
    if bands.dtype != np.uint8:
        stretched = (bands.astype(np.float32) - LOW) / (HIGH - LOW) * 255
        bands = np.rint(stretched.clip(0, 255)).astype(np.uint8)
    bands = np.broadcast_to(bands, (3, *bands.shape[1:]))
    return np.ascontiguousarray(np.moveaxis(bands, 0, 2))
