import sqlite3
import xml.etree.ElementTree as ET

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate

from alps.errors import ConfigError, DatasetNotFound, LabelError, MissingPackage
from alps.rasters import packages
from alps.rasters.cog import join_maps, share_grid, write_cog
from alps.rasters.polygons import index_map_to_polygons
from alps.rasters.qml import polygon_style, raster_style
from alps.rasters.vectors import read_layer, to_areas, write_layer
from alps.structures.georeference import Georeference
from alps.structures.palette import color_classes
from tests.rasters.test_polygons import PLACES, draw_index_map, wkt, write_index_map

CLASSES = color_classes(["water & <more>", "field", "road", "roof"])
UTM = wkt(32632)
SQUARE = shapely.box(691_000, 5_333_990, 691_010, 5_334_000)


def north_up(crs, side, x, y=5_334_000):
    return Georeference(crs, (float(side), 0.0, float(x), 0.0, -float(side), float(y)))


def write_features(path, geometry, crs=32632, **columns):
    frame = geopandas.GeoDataFrame(columns, geometry=[*geometry], crs=crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return path


def write_regions(path, polygons):
    names = [CLASSES[i].name for i in polygons.value]
    columns = {"class_id": polygons.value, "class": names, "area_m2": polygons.area_m2}
    style = polygon_style(CLASSES)
    write_layer(path, polygons.geometry, columns, polygons.crs, layer="regions", style=style)


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet", ".geojson"])
@pytest.mark.parametrize("place", ["rotated", "albers", "degrees"])
def test_regions_are_opened_by_geopandas(suffix, place, tmp_path):
    tif = write_index_map(tmp_path / "a.tif", draw_index_map(), PLACES[place])
    polygons, path = index_map_to_polygons(tif), tmp_path / f"regions{suffix}"
    write_regions(path, polygons)
    read = geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file
    frame = read(path, **({"layer": "regions"} if suffix == ".gpkg" else {}))
    assert frame.is_valid.all()
    assert sorted(frame["class_id"]) == sorted(polygons.value)
    assert frame["area_m2"].sum() == pytest.approx(polygons.area_m2.sum(), rel=1e-9)
    assert set(frame["class"]) <= {category.name for category in CLASSES}
    expected = geopandas.GeoSeries(polygons.geometry, crs=polygons.crs)
    if suffix == ".geojson":
        assert frame.crs == "EPSG:4326"
        assert frame.total_bounds[0] > -180
        expected = expected.to_crs(4326)
    else:
        assert frame.crs == expected.crs
    np.testing.assert_allclose(frame.total_bounds, expected.total_bounds, atol=1e-8)


def test_a_geopackage_contains_its_style(tmp_path):
    tif = write_index_map(tmp_path / "a.tif", draw_index_map(), PLACES["utm"])
    write_regions(tmp_path / "a.gpkg", index_map_to_polygons(tif))
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        styles = database.execute(
            "select f_table_schema, f_table_name, f_geometry_column, useAsDefault, styleQML "
            "from layer_styles"
        ).fetchall()
        columns = database.execute(
            "select table_name, column_name from gpkg_geometry_columns"
        ).fetchall()
    database.close()
    qml = (tmp_path / "a.qml").read_text(encoding="utf-8")
    assert styles == [("", "regions", "geom", 1, qml)]
    assert columns == [("regions", "geom")]


def test_styles_have_the_colour_and_name_of_each_class():
    root = ET.fromstring(polygon_style(CLASSES))
    categories = root.findall("renderer-v2/categories/category")
    assert root.find("renderer-v2").get("attr") == "class_id"
    assert [c.get("label") for c in categories] == [c.name for c in CLASSES]
    symbols = {s.get("name"): s for s in root.findall("renderer-v2/symbols/symbol")}
    for category, entry in zip(CLASSES, categories, strict=True):
        assert entry.get("value") == str(category.id)
        color = symbols[entry.get("symbol")].find("layer/prop[@k='color']").get("v")
        assert color == ",".join(map(str, (*category.color, 255)))
    entries = ET.fromstring(raster_style(CLASSES)).findall(".//paletteEntry")
    assert [e.get("label") for e in entries] == [c.name for c in CLASSES]
    assert entries[1].get("color") == "#{:02x}{:02x}{:02x}".format(*CLASSES[1].color)


def test_geojson_needs_a_crs(tmp_path):
    with pytest.raises(ConfigError, match="the CRS of the raster is unknown; choose gpkg"):
        write_layer(tmp_path / "a.geojson", np.array([SQUARE]), {}, None, layer="regions")


# --- COGs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_cog_is_valid_and_equals_the_map(place, tmp_path):
    labels = draw_index_map((600, 700))
    tif = write_index_map(tmp_path / "a.tif", labels, PLACES[place])
    write_cog(tif, tmp_path / "cog.tif", CLASSES)
    assert cog_validate(tmp_path / "cog.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(tmp_path / "cog.tif") as cog, rasterio.open(tif) as source:
        assert (cog.crs, cog.transform, cog.nodata) == (source.crs, source.transform, 255)
        assert cog.colormap(1) == source.colormap(1)
        assert cog.tags(1)["CLASS_0"] == "water & <more>"
        assert cog.overviews(1) == [2]
        np.testing.assert_array_equal(cog.read(1), labels)
    assert (tmp_path / "cog.qml").exists()


@pytest.mark.filterwarnings("ignore:Use `@` matmul")  # rasterio.merge
def test_maps_of_one_grid_form_a_mosaic(tmp_path):
    labels = draw_index_map((60, 90))
    paths = []
    for i, (y, x) in enumerate([(0, 0), (10, 40), (30, 20)]):
        place = north_up(UTM, 0.5, 691_000 + x / 2, 5_334_000 - y / 2)
        paths.append(write_index_map(tmp_path / f"{i}.tif", labels[y : y + 30, x : x + 50], place))
    assert share_grid(paths)
    join_maps(paths, tmp_path / "mosaic.tif")
    with rasterio.open(tmp_path / "mosaic.tif") as file, rasterio.open(paths[0]) as first:
        mosaic, transform = file.read(1), file.transform
        assert file.colormap(1) == first.colormap(1)
        assert (file.nodata, file.crs, file.tags(1)) == (255, first.crs, first.tags(1))
    assert transform == rasterio.Affine(0.5, 0, 691_000, 0, -0.5, 5_334_000)
    assert mosaic.shape == (60, 90)
    inside = np.zeros(labels.shape, bool)
    for y, x in [(0, 0), (10, 40), (30, 20)]:
        inside[y : y + 30, x : x + 50] = True
    np.testing.assert_array_equal(mosaic, np.where(inside, labels, 255))


@pytest.mark.parametrize(
    "other",
    [
        north_up(UTM, 0.5, 691_000.2),
        north_up(UTM, 0.4, 691_000),
        north_up(wkt(32633), 0.5, 691_000),
        north_up(UTM, 0.5, 791_000),  # 100 km away
        PLACES["rotated"],
    ],
)
def test_other_grids_form_none(other, tmp_path):
    places = (PLACES["utm"], other)
    paths = [
        write_index_map(tmp_path / f"{i}.tif", draw_index_map(), place)
        for i, place in enumerate(places)
    ]
    assert not share_grid(paths)


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".shp", ".parquet"])
def test_all_formats_are_read(suffix, tmp_path):
    other = shapely.affinity.translate(SQUARE, 50)
    path = write_features(tmp_path / f"a{suffix}", [SQUARE, other], kind=["roof", None])
    layer = read_layer(path, field="kind")
    order = [layer.category.index("roof"), layer.category.index(None)]  # FlatGeobuf sorts
    areas = to_areas(layer, UTM)
    overlap = shapely.intersection(areas.geometry[order], [SQUARE, other])
    assert shapely.area(overlap) == pytest.approx(100, rel=1e-4)
    assert not (areas.repaired | areas.unusable | areas.is_point).any()


def test_numbers_are_class_names(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [SQUARE] * 3, code=[7.0, np.nan, 2.5])
    assert read_layer(path, field="code").category == ("7", None, "2.5")


def test_geojson_in_metres_without_a_crs_has_none(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(shapely.to_geojson(SQUARE))
    layer = read_layer(path)
    assert layer.crs is None
    assert to_areas(layer, UTM).geometry[0].equals(SQUARE)


def test_lines_and_points_have_sizes_in_metres(tmp_path):
    line = shapely.LineString([(691_000, 5_334_000), (691_100, 5_334_000)])
    point = shapely.Point(691_000, 5_334_000)
    path = write_features(tmp_path / "a.gpkg", [line, point])
    layer = read_layer(path)
    areas = to_areas(layer, UTM, width=3, point_size=4)
    np.testing.assert_allclose(shapely.area(areas.geometry), [300, 16])
    degrees = to_areas(layer, wkt(4326), width=3, point_size=4)  # measured in UTM
    back = geopandas.GeoSeries(degrees.geometry, crs=4326).to_crs(32632)
    np.testing.assert_allclose(back.area, [300, 16], rtol=1e-3)
    with pytest.raises(ConfigError, match=r"1 lines, which have no area; set dataset.width in"):
        to_areas(layer, UTM, point_size=4)
    with pytest.raises(ConfigError, match=r"1 points.*such as dataset.point_size=3"):
        to_areas(layer, UTM, width=3)
    with pytest.raises(ConfigError, match=r"are metres, but the CRS of the raster is unknown"):
        to_areas(layer, None, width=3, point_size=4)


def test_invalid_geometries_are_repaired_and_empty_ones_counted(tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    flat = shapely.Polygon([(0, 0), (10, 0), (5, 0)])
    path = write_features(tmp_path / "a.gpkg", [SQUARE, bow_tie, None, shapely.Polygon(), flat])
    areas = to_areas(read_layer(path), UTM)
    assert areas.repaired.tolist() == [False, True, False, False, False]
    assert areas.unusable.tolist() == [False, False, True, True, True]
    assert shapely.is_valid(areas.geometry).all()
    np.testing.assert_allclose(shapely.area(areas.geometry), [100, 50, 0, 0, 0])


def test_unusable_files_are_one_clear_error(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [SQUARE], kind=["roof"], height=[3])
    for match, error, arguments in (
        (
            "no attribute 'class'; its attributes are kind, height; set dataset.field",
            ConfigError,
            {"path": path, "field": "class"},
        ),
        (
            "has no layer 'b'; its layers are a; set dataset.layer",
            ConfigError,
            {"path": path, "layer": "b"},
        ),
        (
            "there is no .*b.gpkg; set dataset.vectors",
            DatasetNotFound,
            {"path": tmp_path / "b.gpkg"},
        ),
        ("is no vector file, expected .gpkg, .geojson", ConfigError, {"path": tmp_path / "a.kml"}),
    ):
        with pytest.raises(error, match=match):
            read_layer(**arguments)
    (tmp_path / "vrt.geojson").write_text("<OGRVRTDataSource/>")
    with pytest.raises(LabelError, match=r"its content is not that of a .geojson file"):
        read_layer(tmp_path / "vrt.geojson")
    (tmp_path / "cut.geojson").write_text('{"type": "FeatureCollection", "features": [')
    with pytest.raises(LabelError, match=r"cannot read .*cut.geojson: "):
        read_layer(tmp_path / "cut.geojson")
    geopandas.GeoDataFrame(geometry=[SQUARE], crs=32632).to_file(path, layer="b")
    with pytest.raises(ConfigError, match=r"has 2 layers \(a, b\).*dataset.layer=NAME"):
        read_layer(path)


def test_a_missing_package_names_the_extra():
    with pytest.raises(MissingPackage, match=r'pip install "alps-segmentation\[geo\]"'):
        packages.import_geo("a_package_that_does_not_exist")
