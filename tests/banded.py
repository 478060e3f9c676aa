"""GeoTIFFs of thirteen described bands, as of Sentinel-2, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from tests.factories import create_raster, draw_labels

NAMES = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
PLACE = {
    "crs": rasterio.CRS.from_epsg(32632),
    "transform": rasterio.Affine(10, 0, 691_000, 0, -10, 5_334_000),
}


def draw_bands(size: tuple[int, int] = (64, 64), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Thirteen bands in which each class has a spectrum of its own.

    Returns:
        uint16 (13, H, W) of up to 12,000, where 0 is no data, and labels (H, W) of four classes.
    """
    labels = draw_labels(size, seed)[1]
    spectra = np.random.default_rng(0).integers(500, 9000, (4, len(NAMES)))
    noise = np.random.default_rng(seed).normal(scale=300, size=(len(NAMES), *size))
    bands = (spectra[labels].transpose(2, 0, 1) + noise).clip(1, 12_000)
    return bands.astype(np.uint16), labels


def create_banded(path: Path, bands: np.ndarray, names: Sequence[str] = NAMES, **options) -> None:
    """Write bands (C, H, W) with their descriptions; 0 is no data."""
    create_raster(path, bands, **{**PLACE, "nodata": 0, **options})
    with rasterio.open(path, "r+") as file:
        file.descriptions = tuple(names)


def create_banded_pair(root: Path, n: int = 2, size: tuple[int, int] = (64, 64)) -> None:
    """Write ``img_dir/<split>/<i>.tif`` and ``ann_dir/<split>/<i>.png``; a corner is no data."""
    for s, split in enumerate(("train", "val")):
        for i in range(n):
            bands, labels = draw_bands(size, 10 * s + i)
            bands[:, :8, :8] = 0
            create_banded(root / "img_dir" / split / f"{i}.tif", bands)
            path = root / "ann_dir" / split / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)
