import sys
import tracemalloc

import numpy as np
import pytest
from torch.nn import functional as F

from alps.errors import ImageError, MissingPackage
from alps.geometry import Tile
from alps.images.read import read_image
from alps.palette import distinct_colors
from alps.training import geotiff
from alps.training.geotiff import GeoTiff, is_geotiff
from alps.training.predict import Counts, Predictor
from alps.training.sliding import SlidingWindow
from alps.types import Category
from tests.factories import create_image, draw_scene

rasterio = pytest.importorskip("rasterio")

CRS = rasterio.CRS.from_epsg(32632)
TRANSFORM = rasterio.Affine(0.5, 0.1, 691_000.0, 0.1, -0.5, 5_334_000.0)  # turned a little


def bands(size=(64, 96), dtype=np.uint8, channels=3, seed=0):
    """(C, H, W); deep ones hold 11 bits or reflectances and have no zeros."""
    image = draw_scene(size, seed)[0].transpose(2, 0, 1)
    image = np.concatenate([image, image])[:channels]
    if dtype == np.uint16:
        return image.astype(np.uint16) * 8 + 1
    return image if dtype == np.uint8 else (image.astype(dtype) + 1) / 256


def create_geotiff(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = array.shape
    place = {"crs": CRS, "transform": TRANSFORM} | options
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=array.dtype,
        **place,
    ) as file:
        file.write(array)


def whole(raster):
    return Tile(0, 0, raster.size[1], raster.size[0])


def brightest_band(image):
    return image.float()


CATEGORIES = [Category(i, f"class {i}", color) for i, color in enumerate(distinct_colors(3))]


def predict(source, target, net=brightest_band, categories=CATEGORIES, **options):
    window = SlidingWindow(crop=32)
    predictor = Predictor(net=net, window=window, categories=categories, weights="", **options)
    return predictor(source, target)


# --- which files --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("place", [{}, {"crs": None}, {"transform": None}])
def test_a_crs_or_a_transform_makes_a_geotiff(tmp_path, place):
    create_geotiff(tmp_path / "a.TIF", bands(), **place)
    assert is_geotiff(tmp_path / "a.TIF")


def test_a_world_file_makes_a_geotiff(tmp_path):
    create_image(tmp_path / "a.tif")
    assert not is_geotiff(tmp_path / "a.tif")
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n691000\n5334000\n")
    assert is_geotiff(tmp_path / "a.tif")
    predict(tmp_path / "a.tif", tmp_path / "out")
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert file.transform == rasterio.Affine(0.5, 0, 690_999.75, 0, -0.5, 5_334_000.25)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_no_other_file_is_one(tmp_path, name):
    create_image(tmp_path / name)
    assert not is_geotiff(tmp_path / name)


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_those_of_the_one_reader(tmp_path, channels, dtype):
    array = bands(dtype=dtype, channels=channels)
    array = (array * 1000).astype(dtype) if dtype == np.int16 else array
    create_geotiff(tmp_path / "a.tif", array, photometric="RGB" if channels > 2 else "MINISBLACK")
    expected = read_image(tmp_path / "a.tif").transpose(2, 0, 1)
    with GeoTiff(tmp_path / "a.tif") as raster:
        assert raster.size == (64, 96)
        np.testing.assert_array_equal(raster.read(whole(raster)), expected)
        part = raster.read(Tile(10, 20, 50, 33))
    np.testing.assert_array_equal(part, expected[:, 20:33, 10:50])


def test_no_data_is_black_and_does_not_count(tmp_path):
    array = bands(dtype=np.float32)
    array[:, :20] = -9999
    array[1, 30, 40] = np.nan
    create_geotiff(tmp_path / "a.tif", array, nodata=-9999.0)
    with GeoTiff(tmp_path / "a.tif") as raster:
        image, valid = raster.read(whole(raster)), raster.valid(whole(raster))
    np.testing.assert_array_equal(image, read_image(tmp_path / "a.tif").transpose(2, 0, 1))
    empty = np.zeros((64, 96), bool)
    empty[:20] = empty[30, 40] = True
    np.testing.assert_array_equal(valid, ~empty)


def test_an_empty_deep_raster(tmp_path):
    create_geotiff(tmp_path / "a.tif", np.zeros((3, 20, 30), np.uint16))
    with GeoTiff(tmp_path / "a.tif") as raster:
        assert not raster.read(whole(raster)).any()
        assert not raster.valid(whole(raster)).any()


def test_one_stretch_for_all_windows_from_a_thinned_picture(tmp_path, monkeypatch):
    create_geotiff(tmp_path / "a.tif", bands((200, 300), dtype=np.uint16))
    monkeypatch.setattr(geotiff, "SAMPLE_PIXELS", 5000)
    with GeoTiff(tmp_path / "a.tif") as raster:
        image = raster.read(whole(raster))
        np.testing.assert_array_equal(raster.read(Tile(9, 9, 99, 99)), image[:, 9:99, 9:99])
    exact = read_image(tmp_path / "a.tif").transpose(2, 0, 1).astype(int)
    assert np.abs(image - exact).max() <= 4


@pytest.mark.parametrize("kind", ["palette", "alpha", "mask"])
def test_palettes_alpha_and_masks(tmp_path, kind):
    array = bands(channels=1 if kind == "palette" else 4 if kind == "alpha" else 3)
    if kind == "alpha":
        array[3] = 255
        array[3, :10] = 0
    create_geotiff(
        tmp_path / "a.tif",
        array,
        **({"photometric": "RGB"} if len(array) > 1 else {}),
        **({"alpha": "YES"} if kind == "alpha" else {}),
    )
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        if kind == "palette":
            file.write_colormap(1, {i: (255 - i, i // 2, 7) for i in range(256)})
        elif kind == "mask":
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                file.write_mask(np.arange(64)[:, None].repeat(96, 1) >= 10)
    with GeoTiff(tmp_path / "a.tif") as raster:
        image, valid = raster.read(whole(raster)), raster.valid(whole(raster))
    if kind == "palette":
        assert valid.all()
        np.testing.assert_array_equal(image[0], 255 - array[0])
        np.testing.assert_array_equal(image, read_image(tmp_path / "a.tif").transpose(2, 0, 1))
    else:
        np.testing.assert_array_equal(image, array[:3])
        assert not valid[:10].any()
        assert valid[10:].all()


def test_more_bands_than_four(tmp_path):
    create_geotiff(tmp_path / "a.tif", bands(channels=6))
    with pytest.raises(ImageError, match=r"a\.tif: it has 6 bands, expected 1 to 4; write red"):
        GeoTiff(tmp_path / "a.tif")


def test_rasterio_is_an_extra(tmp_path, monkeypatch):
    create_geotiff(tmp_path / "in/a.tif", bands())
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingPackage, match=r"a\.tif is a GeoTIFF.*pip install 'alps\[geo\]'"):
        predict(tmp_path / "in", tmp_path / "out")


# --- predicting ---------------------------------------------------------------------------------


def test_a_geotiff_stays_where_it_lies(tmp_path):
    array = bands((70, 110))
    create_geotiff(tmp_path / "in/deep/a.tif", array)
    create_image(tmp_path / "in/b.png", seed=1)
    assert predict(tmp_path / "in", tmp_path / "out") == Counts(written=2, kept=0, failed=0)
    names = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/**/*.*")}
    assert names == {"deep/a.tif", "b.png", "categories.json", "predictor.json"}
    with rasterio.open(tmp_path / "out/deep/a.tif") as file:
        assert (file.crs, file.transform) == (CRS, TRANSFORM)
        assert (file.count, file.dtypes, file.nodata) == (1, ("uint8",), 255)
        assert file.profile["tiled"]
        assert file.compression.name == "deflate"
        assert [file.colormap(1)[i][:3] for i in range(3)] == distinct_colors(3)
        np.testing.assert_array_equal(file.read(1), array.argmax(axis=0))


def test_pixels_without_data_have_no_class(tmp_path):
    array = bands((70, 110))
    array[:, 50:] = array[:, :, 100:] = 0
    array[0, 5, 5] = 0  # one band alone is data
    create_geotiff(tmp_path / "a.tif", array, nodata=0)
    predict(tmp_path / "a.tif", tmp_path / "out")
    with rasterio.open(tmp_path / "out/a.tif") as file:
        labels = file.read(1)
    empty = (array == 0).all(axis=0)
    np.testing.assert_array_equal(labels == 255, empty)
    np.testing.assert_array_equal(labels[~empty], array.argmax(axis=0)[~empty])


def test_more_than_255_classes_are_16_bit(tmp_path):
    create_geotiff(tmp_path / "a.tif", bands())
    categories = [Category(i, str(i), color) for i, color in enumerate(distinct_colors(300))]
    weights = np.zeros((300, 1, 1), np.float32)
    weights[299] = 1

    def net(image):
        return image[:, :1].float() * image.new_tensor(weights, dtype=image.float().dtype)

    predict(tmp_path / "a.tif", tmp_path / "out", net, categories)
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert (file.dtypes, file.nodata) == (("uint16",), 65535)
        assert file.colormap(1)[299][:3] == distinct_colors(300)[299]
        assert file.read(1).max() == 299


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_buffer_changes_nothing(tmp_path, dtype):
    create_geotiff(tmp_path / "a.tif", bands((90, 130), dtype))

    def net(image):
        return F.avg_pool2d(image.float(), 7, stride=1, padding=3)

    results = []
    for buffer in (32 * 10, 32 * 50, 1 << 22):
        predict(tmp_path / "a.tif", tmp_path / f"out{buffer}", net, buffer=buffer)
        with rasterio.open(tmp_path / f"out{buffer}/a.tif") as file:
            results.append(file.read(1))
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])


def test_memory_does_not_grow_with_the_raster(tmp_path):
    peaks = []
    for height in (200, 800):
        path = tmp_path / f"{height}.tif"
        create_geotiff(path, np.ones((3, height, 300), np.uint8), tiled=True, compress="deflate")
        predictor = Predictor(
            weights="",
            net=brightest_band,
            window=SlidingWindow(crop=64),
            categories=CATEGORIES,
            buffer=1 << 13,
        )
        tracemalloc.start()  # sees NumPy's memory; torch's is the buffer
        predictor(path, tmp_path / "out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]  # of a raster four times as large


def test_ground_control_points_are_kept(tmp_path):
    corners = [(0, 0), (0, 96), (64, 0)]
    points = [
        rasterio.control.GroundControlPoint(row, col, 10 + col / 1e3, 50 - row / 1e3)
        for row, col in corners
    ]
    create_geotiff(tmp_path / "a.tif", bands(), transform=None, gcps=points, crs="EPSG:4326")
    predict(tmp_path / "a.tif", tmp_path / "out")
    with rasterio.open(tmp_path / "out/a.tif") as file:
        found, system = file.gcps
        assert [(p.row, p.col, p.x, p.y) for p in found] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]
        assert system == "EPSG:4326"


def test_a_damaged_raster_is_skipped(tmp_path):
    create_geotiff(tmp_path / "in/a.tif", bands())
    create_geotiff(tmp_path / "in/b.tif", bands((200, 200)))
    damaged = tmp_path / "in/b.tif"
    damaged.write_bytes(damaged.read_bytes()[:9000])
    assert predict(tmp_path / "in", tmp_path / "out") == Counts(written=1, kept=0, failed=1)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"a.tif", "categories.json", "predictor.json"}
