import tracemalloc

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from torch.nn import functional as F

from alps.errors import ConfigError
from alps.prediction.files import Counts, Predictor
from alps.prediction.sliding import SlidingWindow
from alps.rasters.formats import VECTORS
from alps.structures.palette import distinct_colors
from alps.structures.records import Category
from tests.factories import create_image, create_raster, draw_scene

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
    create_raster(path, array, **{"crs": CRS, "transform": TRANSFORM} | options)


def brightest_band(image):
    return image.float()


CATEGORIES = [Category(i, f"class {i}", color) for i, color in enumerate(distinct_colors(3))]


def predictor(net=brightest_band, categories=CATEGORIES, **options):
    window = SlidingWindow(crop=32)
    return Predictor(net=net, window=window, categories=categories, weights="", **options)


def predict(source, target, *arguments, **options):
    return predictor(*arguments, **options)(source, target)


# --- which files --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("place", [{}, {"crs": None}, {"transform": None}])
def test_a_crs_or_a_transform_makes_a_geotiff(tmp_path, place):
    create_geotiff(tmp_path / "a.TIF", bands(), **place)
    predict(tmp_path / "a.TIF", tmp_path / "out")
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert file.crs == place.get("crs", CRS)
        assert file.transform == (place.get("transform", TRANSFORM) or rasterio.Affine.identity())


def test_a_world_file_makes_a_geotiff(tmp_path):
    create_image(tmp_path / "a.tif")
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n691000\n5334000\n")
    predict(tmp_path / "a.tif", tmp_path / "out")
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert file.transform == rasterio.Affine(0.5, 0, 690_999.75, 0, -0.5, 5_334_000.25)


def test_a_damaged_world_file_is_reported_and_not_used(tmp_path, caplog):
    create_image(tmp_path / "a.tif")
    (tmp_path / "a.tfw").write_text("0.5 0 0")
    predict(tmp_path / "a.tif", tmp_path / "out")
    assert (tmp_path / "out/a.png").exists()
    assert "a.tfw is not a valid world file" in caplog.text


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_an_image_without_a_place_becomes_a_png(tmp_path, name):
    create_image(tmp_path / name)
    predict(tmp_path / name, tmp_path / "out")
    assert (tmp_path / "out/a.png").exists()


def test_jpeg_2000_with_a_place_becomes_a_geotiff(tmp_path):
    create_geotiff(tmp_path / "a.jp2", bands())
    predict(tmp_path / "a.jp2", tmp_path / "out")
    with rasterio.open(tmp_path / "out/a.tif") as file:
        assert (file.crs, file.transform) == (CRS, TRANSFORM)
        np.testing.assert_array_equal(file.read(1), bands().argmax(axis=0))


def test_sidecar_files_that_are_not_read_are_reported(tmp_path, caplog):
    create_geotiff(tmp_path / "in/a.tif", bands())
    (tmp_path / "in/a.aux").write_text("anything")
    predict(tmp_path / "in", tmp_path / "out")
    assert "1 raster has a sidecar file .aux that is not read (first: a.aux)" in caplog.text


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
    np.testing.assert_array_equal(predictor().file(tmp_path / "a.tif"), labels)
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


# --- no data, polygons, probabilities -----------------------------------------------------------


@pytest.mark.parametrize("buffer", [32 * 40, 1 << 22])
def test_windows_without_data_are_not_predicted(tmp_path, buffer):
    array = bands((120, 160))
    array[:, 30:100, 20:] = 0  # whole windows, rows of windows, and parts of strips
    create_geotiff(tmp_path / "a.tif", array, nodata=0)
    create_geotiff(tmp_path / "all.tif", array)
    counts = []

    def net(image):
        counts.append(len(image))
        assert image.reshape(len(image), -1).any(dim=1).all()
        return F.avg_pool2d(image.float(), 7, stride=1, padding=3)

    def count(image):
        counts.append(-len(image))
        return F.avg_pool2d(image.float(), 7, stride=1, padding=3)

    skipped = predictor(net, buffer=buffer).file(tmp_path / "a.tif")
    complete = predictor(count, buffer=buffer).file(tmp_path / "all.tif")
    assert sum(counts) < -10  # windows that were skipped
    valid = (array != 0).any(axis=0)
    np.testing.assert_array_equal(skipped, np.where(valid, complete, 255))


def test_a_raster_without_data_costs_no_prediction(tmp_path):
    create_geotiff(tmp_path / "a.tif", np.zeros((3, 100, 100), np.uint8), nodata=0)

    def net(image):
        raise AssertionError("it has no data")

    predict(tmp_path / "a.tif", tmp_path / "out", net, probability=True)
    for name in ("a.tif", "a.probability.tif"):
        with rasterio.open(tmp_path / "out" / name) as file:
            assert (file.read(1) == file.nodata).all()


@pytest.mark.parametrize("layout", VECTORS)
def test_polygons_of_the_regions_lie_beside_the_map(tmp_path, layout):
    array = bands((70, 110))
    array[:, 50:] = 0
    create_geotiff(tmp_path / "in/deep/a.tif", array, nodata=0)
    predict(tmp_path / "in", tmp_path / "out", vector=layout)
    path = tmp_path / f"out/deep/a{VECTORS[layout]}"
    read = geopandas.read_parquet if layout == "geoparquet" else geopandas.read_file
    frame = read(path, **({"layer": "regions"} if layout == "gpkg" else {})).to_crs(CRS)
    with rasterio.open(tmp_path / "out/deep/a.tif") as file:
        labels = file.read(1)
        assert file.tags(1)["CLASS_0"] == "class 0"
    shapes = zip(frame.geometry, frame["class_id"], strict=True)
    burnt = rasterize(shapes, labels.shape, fill=255, transform=TRANSFORM, dtype=np.uint8)
    np.testing.assert_array_equal(burnt, labels)
    assert frame.is_valid.all()
    assert frame["area_m2"].sum() == pytest.approx((labels != 255).sum() * 0.26)
    names = {p.name for p in (tmp_path / "out/deep").iterdir()}
    assert names == {"a.tif", path.name, "a.qml"}


def test_probabilities_are_those_of_the_class(tmp_path):
    array = bands((70, 110))
    array[:, 50:] = 0
    create_geotiff(tmp_path / "a.tif", array, nodata=0)

    def net(image):
        return image.float() / 100

    predict(tmp_path / "a.tif", tmp_path / "out", net, probability=True)
    with rasterio.open(tmp_path / "out/a.probability.tif") as file:
        assert (file.crs, file.transform) == (CRS, TRANSFORM)
        assert (file.dtypes, file.nodata) == (("uint8",), 0)
        values = file.read(1)
    logits = array.astype(np.float64) / 100
    expected = (np.exp(logits) / np.exp(logits).sum(axis=0)).max(axis=0) * 255
    valid = (array != 0).any(axis=0)
    np.testing.assert_allclose(values, np.where(valid, expected, 0), atol=0.51)


def test_outputs_that_are_missing_are_added(tmp_path, caplog):
    create_geotiff(tmp_path / "in/a.tif", bands())
    create_image(tmp_path / "in/b.png")
    assert predict(tmp_path / "in", tmp_path / "out").written == 2
    more = {"vector": "flatgeobuf", "probability": True}
    assert predict(tmp_path / "in", tmp_path / "out", **more) == Counts(2, 0, 0)
    assert "1 of 2 images have no georeference, so no .fgb is written for them" in caplog.text
    assert {p.name for p in (tmp_path / "out").glob("?.*")} == {
        *("a.tif", "a.fgb", "a.qml", "a.probability.tif", "b.png", "b.probability.png")
    }
    assert predict(tmp_path / "in", tmp_path / "out", **more) == Counts(0, 2, 0)


def test_an_unknown_vector_format_is_refused():
    with pytest.raises(ConfigError, match=r"vector=shp: expected null, gpkg, geoparquet"):
        predictor(vector="shp")
