"""STAC item collections, whose items are rasters and whose assets are bands."""

import json
import sys

import numpy as np
import pytest
from rasterio import Affine

from alps.errors import ConfigError, DatasetNotFound, MissingPackage
from alps.images import Rasters
from alps.images.geo.stac import _read_items
from tests.geo_rasters import create_geo_raster, draw_bands, serve

ASSETS = ["B04", "B03", "B02", "B11"]


def item(item_id, hrefs):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "geometry": None,
        "properties": {"datetime": "2024-05-01T00:00:00Z"},
        "links": [],
        "assets": {name: {"href": href} for name, href in hrefs.items()},
    }


def write(path, items):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return f"stac:{path}"


@pytest.fixture
def collection(tmp_path):
    """Two items with a file for each asset; B11 has pixels of twice the side."""
    items = []
    for i, name in enumerate(("S2A_1", "S2A_2")):
        bands = draw_bands(4, seed=i)
        for asset, band in zip(ASSETS, bands, strict=True):
            side, step = (1.0, 2) if asset == "B11" else (0.5, 1)
            create_geo_raster(
                tmp_path / name / f"{asset}.tif",
                band[None, ::step, ::step],
                transform=Affine(side, 0, 5e5, 0, -side, 4e6),
            )
        items.append(item(name, {asset: f"{name}/{asset}.tif" for asset in ASSETS}))
    return write(tmp_path / "items.json", items)


def test_assets_are_bands_on_the_grid_of_the_first(collection, tmp_path):
    images = Rasters(root=collection, assets=ASSETS, bands=["B11", "B02"])
    records = images.records()
    assert [record.image_id for record in records] == [
        "S2A_1/000000_000000",
        "S2A_2/000000_000000",
    ]
    assert [record.file_name for record in records] == ["items.json#S2A_1", "items.json#S2A_2"]
    assert images.view["rgb"] == ("B04", "B03", "B02")
    assert images.band_names == ("B11", "B02")
    sample = images.read(records[1])
    bands = draw_bands(4, seed=1)
    np.testing.assert_array_equal(sample.bands[1], bands[2])
    coarse = np.kron(bands[3, ::2, ::2], np.ones((2, 2)))  # bilinear differs at edges only
    assert np.median(np.abs(sample.bands[0] - coarse)) < 60
    assert sample.georeference.transform == (0.5, 0.0, 5e5, 0.0, -0.5, 4e6)
    assert images.root == str(tmp_path)
    assert images.findings() == []


def test_assets_are_resampled(collection):
    images = Rasters(root=collection, assets=ASSETS[:3], bands=["B04"], gsd=1.0)
    sample = images.read(images.records()[0])
    expected = draw_bands(4)[0].reshape(32, 2, 48, 2).mean((1, 3))
    np.testing.assert_allclose(sample.bands[0], expected, atol=1)
    assert sample.georeference.transform == (1.0, 0.0, 5e5, 0.0, -1.0, 4e6)


def test_nodata_of_assets_is_invalid(tmp_path):
    bands = draw_bands(3)
    bands[:, :20] = 0
    for asset, band in zip(ASSETS, bands, strict=False):
        create_geo_raster(tmp_path / f"{asset}.tif", band[None], nodata=0)
    location = write(tmp_path / "i.json", [item("a", {a: f"{a}.tif" for a in ASSETS[:3]})])
    images = Rasters(root=location, assets=ASSETS[:3])
    sample = images.read(*images.records())
    np.testing.assert_array_equal(sample.valid, bands[0] != 0)


def test_one_asset_with_several_bands_is_a_raster(tmp_path):
    create_geo_raster(tmp_path / "v.tif", draw_bands(3, dtype=np.uint8), photometric="RGB")
    location = write(tmp_path / "i.json", [item("a", {"visual": (tmp_path / "v.tif").as_uri()})])
    images = Rasters(root=location, assets=["visual"])
    np.testing.assert_array_equal(
        images.read(*images.records()).image, draw_bands(3, dtype=np.uint8).transpose(1, 2, 0)
    )


def test_assets_are_read_from_uris(collection, tmp_path):
    local = Rasters(root=collection, assets=ASSETS[:3])
    with serve(tmp_path) as server:
        uri = f"http://127.0.0.1:{server.server_port}"
        hrefs = {asset: f"{uri}/S2A_1/{asset}.tif?sig=secret" for asset in ASSETS}
        remote = Rasters(
            root=write(tmp_path / "remote.json", [item("S2A_1", hrefs)]),
            assets=ASSETS[:3],
            stretch=local.view["limits"],
        )
        (record,) = remote.records()
        np.testing.assert_array_equal(
            remote.read(record).image, local.read(local.records()[0]).image
        )
    assert "secret" not in repr(record)


def test_items_without_an_asset_are_skipped(collection, tmp_path):
    document = json.loads((tmp_path / "items.json").read_text())
    del document["features"][1]["assets"]["B02"]
    location = write(tmp_path / "items.json", document["features"])
    images = Rasters(root=location, assets=ASSETS[:3])
    assert len(images.records()) == 1
    (finding,) = images.findings()
    assert "(first: item S2A_2 has no asset 'B02'; it has B03, B04, B11)" in str(finding)


def test_several_assets_must_have_one_band_each(tmp_path):
    create_geo_raster(tmp_path / "v.tif", draw_bands(3))
    location = write(tmp_path / "i.json", [item("a", {"x": "v.tif", "y": "v.tif"})])
    with pytest.raises(
        DatasetNotFound, match=r"v\.tif: it has 3 bands, expected one band for each"
    ):
        Rasters(root=location, assets=["x", "y"], rgb=[1]).records()


def test_assets_must_be_named(collection):
    with pytest.raises(
        ConfigError, match=r"needs dataset\.assets=\[NAME,\.\.\.\], .*S2A_1 has B02, B03, B04, B11"
    ):
        Rasters(root=collection)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type": "Catalog"}',
            r"items\.json is not a STAC item collection \(.*response of a STAC",
        ),
        ("[1", r"items\.json is not a STAC item collection"),
    ],
)
def test_other_documents_are_refused(tmp_path, text, message):
    (tmp_path / "items.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Rasters(root=f"stac:{tmp_path}/items.json", assets=["a"]).records()


def test_equal_ids_are_refused(tmp_path):
    location = write(tmp_path / "items.json", [item("a", {}), item("a", {})])
    with pytest.raises(ConfigError, match="has two items 'a'; remove one"):
        Rasters(root=location, assets=["a"]).records()


def test_a_missing_file_and_a_missing_package_are_reported(collection, tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFound, match=r"none\.json does not exist; set dataset\.root=stac"):
        Rasters(root=f"stac:{tmp_path}/none.json", assets=["a"]).records()
    _read_items.cache_clear()
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(MissingPackage, match=r'pip install "alps-segmentation\[geo\]"'):
        Rasters(root=collection, assets=["B04"]).records()
