"""The commands of docs/rasters.md, "The whole way", on a small raster with real weights of SAM."""

import re
import shlex
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from alps.export.__main__ import main as export
from tests.factories import create_raster
from tests.programs import LIGHTNING_WARNINGS, TINY

PAGE = Path(__file__).parents[2] / "docs/rasters.md"
PLACE = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
#: Overrides that make the commands small.
SMALL = {
    "label.py": ("dataset.window=160", "dataset.overlap=64", "masks.points_per_side=4"),
    "stage=pretrain": (*TINY, "init=null", "data.crop=64", "trainer.max_steps=2", "logger=none"),
    "stage=finetune": (
        *(*TINY, "dataset.window=96", "dataset.overlap=32"),
        *("data.crop=64", "trainer.max_steps=2", "logger=none"),
    ),
    "stage=predict": ("trainer=cpu",),
}


def create_town(folder):
    """Write an orthophoto of buildings on grass, and a layer of their outlines."""
    rng = np.random.default_rng(0)
    image = np.full((150, 210, 3), (90, 120, 60), np.uint8) + rng.integers(0, 9, (150, 210, 3))
    outlines = []
    for y in range(10, 130, 40):
        for x in range(12, 190, 48):
            image[y : y + 20, x : x + 28] = rng.integers(120, 250, 3)
            (west, north), (east, south) = PLACE @ (x, y), PLACE @ (x + 28, y + 20)
            outlines.append(box(west, south, east, north))
    create_raster(
        folder / "orthophotos/town.tif",
        image.astype(np.uint8).transpose(2, 0, 1),
        crs="EPSG:32616",
        transform=PLACE,
    )
    layer = geopandas.GeoDataFrame(geometry=outlines, crs="EPSG:32616")
    layer.to_file(folder / "buildings.gpkg")


def commands():
    section = PAGE.read_text().split("## The whole way")[1].split("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@LIGHTNING_WARNINGS
def test_the_commands_of_the_page(tmp_path, label, train, monkeypatch):
    (tmp_path / "orthophotos").mkdir()
    create_town(tmp_path)
    for line in commands():
        _, *words = shlex.split(line)
        small = next((more for name, more in SMALL.items() if name in words), ())
        if words[0] == "label.py":
            done = label(*words[1:], *small)
            assert done.returncode == 0, done.stderr
        elif words[0] == "train.py":
            status, _, err = train(*words[1:], *small)
            assert status == 0, err
        else:
            assert words[:2] == ["-m", "alps.export"]
            export(words[2:])
    for path in ("data/town_pl/ann/train/town.tif", "maps/mosaic/town.tif", "buildings/town.tif"):
        with rasterio.open(path) as file:
            assert (file.height, file.width) == (150, 210)
            assert (file.crs, file.transform) == (rasterio.CRS.from_epsg(32616), PLACE)
    regions = geopandas.read_file("maps/polygons/regions.gpkg", layer="regions")
    assert regions.is_valid.all()
    assert regions.area_m2.sum() == pytest.approx(150 * 210 * 0.25, rel=0.05)
    predicted = geopandas.read_file("buildings/town.gpkg", layer="regions")
    assert predicted.area_m2.sum() == pytest.approx(150 * 210 * 0.25)
    assert {*predicted["class"]} <= {"background", "object"}
