"""Bands, limits and resolutions that a view chooses, on all kinds of rasters."""

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio import CRS, Affine
from rasterio.enums import ColorInterp

from alps.errors import ImageError
from alps.images.files.read import read_sample
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.structures.records import ImageRecord
from alps.structures.tiles import Tile
from tests.geo_rasters import GRIDS, create_geo_raster, draw_bands

TILE = Tile(16, 8, 80, 40)
LIMITS = ((100.0, 900.0), (50.0, 1500.0), (0.0, 2000.0))


def read(path, view, tile=None, **options):
    with Raster(path, view, **options) as raster:
        return raster.read(tile)


def stretched(bands, limits):
    """The expected image, in float64."""
    low, high = np.array(limits).T[..., None, None]
    return np.rint(((bands - low) / (high - low) * 255).clip(0, 255)).transpose(1, 2, 0)


# --- what comes in and what comes out -----------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("count", [1, 3, 4, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_bands_and_georeference_are_those_of_the_file(tmp_path, dtype, count, interleave, grid):
    bands = draw_bands(count, dtype=dtype)
    nodata = np.nan if dtype == np.float32 else 7
    bands[:, :10, :20] = nodata
    path = tmp_path / "a.tif"
    create_geo_raster(path, bands, grid, interleave=interleave, nodata=nodata)
    rgb = (1,) if count == 1 else (3, 1, 2)
    networks = tuple(range(count, 0, -1))
    view = View(rgb=rgb, bands=networks, limits=LIMITS[: len(rgb)])
    pixels = read(path, view, TILE)
    window = bands[:, TILE.y0 : TILE.y1, TILE.x0 : TILE.x1]

    np.testing.assert_array_equal(pixels.bands, window[::-1])
    assert pixels.bands.dtype == dtype
    invalid = np.zeros((64, 96), bool)
    invalid[:10, :20] = True
    np.testing.assert_array_equal(pixels.valid, ~invalid[TILE.y0 : TILE.y1, TILE.x0 : TILE.x1])
    expected = stretched(window[[n - 1 for n in rgb]].astype(float), LIMITS[: len(rgb)])
    difference = np.abs(pixels.image[pixels.valid] - expected[pixels.valid])
    assert difference.max() <= 1
    crs, transform = GRIDS[grid]
    assert CRS.from_wkt(pixels.georeference.crs) == crs
    np.testing.assert_allclose(pixels.georeference.transform, tuple(transform)[:6], rtol=1e-9)


@pytest.mark.parametrize("options", [{"driver": "COG"}, {"tiled": True, "compress": "deflate"}])
def test_layouts_of_tiffs_give_the_same_pixels(tmp_path, options):
    bands = draw_bands(4, (700, 600))
    create_geo_raster(tmp_path / "a.tif", bands)
    create_geo_raster(tmp_path / "b.tif", bands, **options)
    view = View(rgb=(3, 2, 1), bands=(4, 1), limits=LIMITS)
    plain, other = (read(tmp_path / name, view) for name in ("a.tif", "b.tif"))
    np.testing.assert_array_equal(plain.image, other.image)
    np.testing.assert_array_equal(plain.bands, other.bands)
    assert plain.georeference == other.georeference


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_sample_has_the_georeference_unless_the_image_is_turned(tmp_path, orientation):
    image = draw_bands(3, dtype=np.uint8).transpose(1, 2, 0)
    tags = [
        (274, "H", 1, orientation, True),
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extratags=tags)
    georeference = read_sample(tmp_path, ImageRecord("a", "a.tif")).georeference
    if orientation == 1:
        assert georeference.transform == (0.5, 0.0, 5e5, 0.0, -0.5, 4e6)
    else:
        assert georeference is None


def test_limits_apply_to_every_raster(tmp_path):
    """The same ground in two files, one of which also has bright clouds, gets the same values."""
    ground = draw_bands(3)
    clouds = ground.copy()
    clouds[:, 32:] += 5000
    images = []
    for name, bands in (("a.tif", ground), ("b.tif", clouds)):
        create_geo_raster(tmp_path / name, bands)
        images.append(read(tmp_path / name, View(rgb=(1, 2, 3), limits=LIMITS)).image[:32])
    np.testing.assert_array_equal(*images)


def test_a_view_without_limits_stretches_by_percentiles(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(3))
    plain, view = (read(tmp_path / "a.tif", v) for v in (None, View(rgb=(1, 2, 3))))
    np.testing.assert_array_equal(plain.image, view.image)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(rgb=(1, 2, 9)), r"it has no band 9; its bands: 1 B02 \(gray, uint16\), 2 B03 \(und"),
        (View(rgb=("B04", "B03", "B02")), "it has no band 'B04'"),
        (View(rgb=(1, 2)), "rgb has 2 bands, expected 3, or 1 for gray"),
        (View(rgb=(1,), limits=LIMITS), "there are 3 pairs of limits for 1 bands, expected one"),
    ],
)
def test_views_that_do_not_fit_are_refused(tmp_path, view, message):
    create_geo_raster(tmp_path / "a.tif", draw_bands(2), descriptions=["B02", "B03"])
    with pytest.raises(ImageError, match=message):
        read(tmp_path / "a.tif", view)


def test_many_bands_are_refused_without_a_view_and_read_with_one(tmp_path):
    bands = draw_bands(13)
    create_geo_raster(tmp_path / "a.tif", bands)
    with pytest.raises(ImageError, match="it has 13 bands, expected 1 to 4"):
        Raster(tmp_path / "a.tif")
    np.testing.assert_array_equal(
        read(tmp_path / "a.tif", View(bands=(13, 2))).bands, bands[[12, 1]]
    )


def test_a_fourth_8_bit_band_with_a_name_is_not_alpha(tmp_path):
    """GDAL declares it as alpha, and 0 in it would make pixels invalid."""
    bands = draw_bands(4, dtype=np.uint8)
    bands[3] = 0
    names = ["B02", "B03", "B04", "B08"]
    create_geo_raster(tmp_path / "a.tif", bands, descriptions=names, photometric="RGB", alpha="YES")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    pixels = read(tmp_path / "a.tif", View())
    assert pixels.valid is None
    np.testing.assert_array_equal(pixels.image, bands[[2, 1, 0]].transpose(1, 2, 0))


# --- windows without data -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nodata", "alpha", "mask", "nan"])
def test_empty_windows_are_not_decoded_further(tmp_path, kind, monkeypatch):
    bands = draw_bands(4, (64, 128), np.float32 if kind == "nan" else np.uint16)
    empty = {"nodata": 9, "alpha": 0, "mask": 5, "nan": np.nan}[kind]
    bands[:, :, :64] = empty
    options = {"nodata": 9} if kind == "nodata" else {}
    if kind == "alpha":
        options = {"photometric": "RGB", "alpha": "YES"}
    path = tmp_path / "a.tif"
    create_geo_raster(path, bands, tiled=True, blockxsize=64, blockysize=64, **options)
    if kind == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(np.tile(np.arange(128) >= 64, (64, 1)))
    networks = (1, 2, 3) if kind == "alpha" else (4, 1)
    with Raster(path, View(rgb=(1, 2, 3), bands=networks, limits=LIMITS)) as raster:
        full = raster.read(Tile(64, 0, 128, 64))
        assert full.valid is None
        monkeypatch.setattr(raster, "_stretch", None)  # not called
        pixels = raster.read(Tile(0, 0, 64, 64))
        assert not raster.valid(Tile(0, 0, 64, 64)).any()
    assert not pixels.valid.any()
    assert not pixels.image.any()
    assert pixels.bands.shape == (len(networks), 64, 64)
    assert pixels.bands.dtype == bands.dtype


def test_a_sparse_raster_costs_nothing(tmp_path):
    """4 TB if it were stored; the windows are read one by one."""
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True}
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        width=1_000_000,
        height=1_000_000,
        count=4,
        dtype="uint8",
        nodata=0,
        crs=GRIDS["UTM"][0],
        transform=GRIDS["UTM"][1],
        BIGTIFF="YES",
        **options,
    ):
        pass
    with Raster(tmp_path / "a.tif", View(rgb=(1, 2, 3))) as raster:
        pixels = raster.read(Tile(700_000, 900_000, 701_024, 901_024))
    assert pixels.valid is not None
    assert not pixels.valid.any()


# --- resolution ---------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", ["UTM", "rotated", "flipped", "Albers"])
def test_larger_pixels_are_means(tmp_path, grid):
    bands = draw_bands(3, dtype=np.float32)
    create_geo_raster(tmp_path / "a.tif", bands, grid)
    side = 30.0 if grid == "Albers" else 0.5
    view = View(rgb=(1, 2, 3), bands=(1, 2, 3), limits=LIMITS, gsd=2 * side)
    with Raster(tmp_path / "a.tif", view) as raster:
        assert raster.size == (32, 48)
        assert raster.stored_gsd == pytest.approx(side)
        pixels = raster.read()
        part = raster.read(Tile(10, 5, 40, 30))
    expected = bands.reshape(3, 32, 2, 48, 2).mean((2, 4))
    np.testing.assert_allclose(pixels.bands, expected, rtol=1e-5)
    np.testing.assert_array_equal(part.image, pixels.image[5:30, 10:40])
    crs, transform = GRIDS[grid]
    assert CRS.from_wkt(pixels.georeference.crs) == crs
    a, b, x, d, e, y = tuple(transform)[:6]
    expected_transform = 2 * a, 2 * b, x, 2 * d, 2 * e, y
    np.testing.assert_allclose(pixels.georeference.transform, expected_transform, rtol=1e-9)


def test_smaller_pixels_are_interpolated(tmp_path):
    bands = np.tile(np.arange(96, dtype=np.float32) * 10, (3, 64, 1))
    create_geo_raster(tmp_path / "a.tif", bands)
    pixels = read(tmp_path / "a.tif", View(rgb=(1, 2, 3), bands=(2,), limits=LIMITS, gsd=0.25))
    assert pixels.size == (128, 192)
    np.testing.assert_allclose(np.diff(pixels.bands[0, 60, 4:-4]), 5, atol=1e-3)


def test_metres_in_degrees_are_those_of_the_centre(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(1, (1000, 1000)), "geographic")
    with Raster(tmp_path / "a.tif", View(rgb=(1,), gsd=2.0)) as raster:
        height, width = raster.size
        a, _, _, _, e, _ = raster.georeference.transform
    # At 41.495 degrees north one degree is 83,520 m (longitude) and 111,064 m (latitude).
    assert a == pytest.approx(2 / 83_520, rel=1e-3)
    assert e == pytest.approx(-2 / 111_064, rel=1e-3)
    assert (height, width) == (round(1000 * 1.11064 / 2), round(1000 * 0.8352 / 2))


def test_feet_are_converted(tmp_path):
    feet = CRS.from_epsg(2263)  # New York, US survey feet
    create_geo_raster(
        tmp_path / "a.tif", draw_bands(1), crs=feet, transform=Affine(1, 0, 0, 0, -1, 9)
    )
    with Raster(tmp_path / "a.tif", View(rgb=(1,), gsd=0.6096012)) as raster:
        assert raster.size == (32, 48)


@pytest.mark.parametrize("kind", ["nodata", "alpha", "mask", ".msk"])
@pytest.mark.parametrize("gsd", [1.0, 0.25])
def test_invalid_pixels_do_not_contribute_to_others(tmp_path, kind, gsd):
    bands = np.full((4, 64, 96), 1000, np.uint16)
    bands[:, :, :33] = 0 if kind in ("nodata", "alpha") else 60_000
    path = tmp_path / "a.tif"
    alpha = {"photometric": "RGB", "alpha": "YES"} if kind == "alpha" else {}
    if kind == "alpha":
        bands[:3, :, :33] = 60_000
        bands[3, :, 33:] = 65_535
    create_geo_raster(path, bands, **{"nodata": 0} if kind == "nodata" else alpha)
    mask = np.tile(np.arange(96) >= 33, (64, 1))
    if kind.endswith("sk"):
        inside = kind == "mask"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() == (kind == ".msk")
    pixels = read(path, View(rgb=(1, 2, 3), bands=(1, 2, 3), limits=((0.0, 2000.0),), gsd=gsd))
    scale = 0.5 / gsd
    valid = pixels.valid
    assert valid[:, int(33 * scale) + 1 :].all()
    assert not valid[:, : int(33 * scale) - 1].any()
    assert {*np.unique(pixels.bands[:, valid])} == {1000}


@pytest.mark.parametrize("lacks", ["crs", "transform"])
def test_a_raster_without_georeference_cannot_be_resampled(tmp_path, lacks):
    create_geo_raster(tmp_path / "a.tif", draw_bands(1), **{lacks: None})
    with pytest.raises(
        ImageError, match=r"it has no coordinate reference system and transform, so .*gdal_edit\.py"
    ):
        Raster(tmp_path / "a.tif", View(rgb=(1,), gsd=1.0))


def test_the_stored_resolution_is_read_as_stored(tmp_path):
    bands = draw_bands(1)
    create_geo_raster(tmp_path / "a.tif", bands)
    np.testing.assert_array_equal(
        read(tmp_path / "a.tif", View(rgb=(1,), bands=(1,), gsd=0.50001)).bands, bands
    )


def test_views_are_stored_as_json():
    view = View(
        rgb=("B04", "B03", "B02"),
        bands=(1, 4),
        names=("x", "y"),
        limits=LIMITS,
        gsd=1.5,
        assets=("B04",),
    )
    assert View.from_json(view.to_json()) == view
    assert View().to_json() == {}
