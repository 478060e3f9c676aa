import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from alps.errors import ConfigError
from alps.rasters.index_map import create_index_map
from alps.rasters.measure import areas, pixel_size
from alps.rasters.polygons import index_map_to_polygons, masks_to_polygons
from alps.structures.georeference import Georeference
from alps.structures.masks import Masks
from alps.structures.tiles import Tile

SIZE = (90, 140)
#: An Albers projection without an EPSG code, in feet.
ALBERS = "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +datum=WGS84 +units=us-ft +no_defs"


def wkt(crs):
    return rasterio.CRS.from_user_input(crs).to_wkt()


PLACES = {
    "utm": Georeference(wkt(32632), (0.5, 0.0, 691_000.0, 0.0, -0.5, 5_334_000.0)),
    "rotated": Georeference(wkt(32632), (0.4, 0.3, 691_000.0, 0.3, -0.4, 5_334_000.0)),
    "flipped": Georeference(wkt(32632), (0.5, 0.0, 691_000.0, 0.0, 0.5, 5_334_000.0)),
    "albers": Georeference(wkt(ALBERS), (90.0, 0.0, -2e6, 0.0, -90.0, 6e6)),
    "degrees": Georeference(wkt(4326), (3e-4, 0.0, -101.7, 0.0, -3e-4, 41.4)),
}


def draw_index_map(size=SIZE, noise=0.02, seed=0):
    """Blocks of four classes that touch at edges and corners, with scattered no-data."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (-(-size[0] // 10), -(-size[1] // 10)))
    labels = np.kron(coarse, np.ones((10, 10), int))[: size[0], : size[1]].astype(np.uint8)
    labels[rng.random(size) < noise] = 255
    labels[:7, :12] = 255
    return labels


def write_index_map(path, labels, georeference):
    height, width = labels.shape
    colors = [(i, i, i) for i in range(4)]
    names = ["water & <more>", "field", "road", "roof"]
    with create_index_map(path, labels.shape, georeference, colors, 255, names) as write:
        write(Tile(0, 0, width, height), labels)
    return path


def burn(polygons, size, transform):
    shapes = zip(polygons.geometry, polygons.value, strict=True)
    transform = rasterio.Affine(*transform)
    return rasterize(shapes, size, fill=255, transform=transform, dtype=np.uint8)


@pytest.mark.parametrize("place", PLACES)
def test_regions_are_valid_and_burn_back_to_the_map(place, tmp_path):
    labels, georeference = draw_index_map(), PLACES[place]
    path = write_index_map(tmp_path / "a.tif", labels, georeference)
    polygons = index_map_to_polygons(path)
    assert shapely.is_valid(polygons.geometry).all()
    assert (shapely.get_type_id(polygons.geometry) == 3).all()
    np.testing.assert_array_equal(burn(polygons, labels.shape, georeference.transform), labels)
    assert rasterio.CRS.from_wkt(polygons.crs) == rasterio.CRS.from_wkt(georeference.crs)
    # Each region is whole: neighbours of the same class share at most corners.
    frame = geopandas.GeoDataFrame({"value": polygons.value}, geometry=polygons.geometry)
    assert len(frame.dissolve("value").explode()) <= len(frame)


@pytest.mark.parametrize("place", ["utm", "rotated", "flipped", "albers"])
def test_planar_areas_are_those_of_the_pixels(place, tmp_path):
    labels, georeference = draw_index_map(), PLACES[place]
    path = write_index_map(tmp_path / "a.tif", labels, georeference)
    polygons = index_map_to_polygons(path)
    pixel = {"albers": (90 * 1200 / 3937) ** 2}.get(place, 0.25)  # a US survey foot
    assert polygons.area_m2.sum() == pytest.approx((labels != 255).sum() * pixel, rel=1e-9)
    largest = polygons.area_m2.argmax()
    mask = rasterize(
        [polygons.geometry[largest]],
        labels.shape,
        transform=rasterio.Affine(*georeference.transform),
    )
    assert polygons.area_m2[largest] == pytest.approx(mask.sum() * pixel, rel=1e-9)


def cell_area(south, north, width):
    """Of a cell of latitude and longitude on WGS 84 in m² (Snyder 1987, equation 3-12)."""
    a, e = 6378137.0, np.sqrt(1 - (1 - 1 / 298.257223563) ** 2)

    def q(latitude):
        s = np.sin(np.radians(latitude))
        inside = np.log((1 - e * s) / (1 + e * s)) / (2 * e)
        return (1 - e**2) * (s / (1 - e**2 * s**2) - inside)

    return a**2 * np.radians(width) * (q(north) - q(south)) / 2


def test_areas_in_degrees_are_those_of_the_ellipsoid(tmp_path):
    labels, georeference = draw_index_map(), PLACES["degrees"]
    labels[20:80] = 1  # long edges along parallels, which are not geodesics
    path = write_index_map(tmp_path / "a.tif", labels, georeference)
    polygons = index_map_to_polygons(path)
    top = 41.4 - 3e-4 * np.arange(labels.shape[0])
    rows = cell_area(top - 3e-4, top, 3e-4)
    for value in range(4):
        expected = ((labels == value).sum(axis=1) * rows).sum()
        assert polygons.area_m2[polygons.value == value].sum() == pytest.approx(expected, rel=1e-6)


def test_simplified_neighbours_have_neither_gaps_nor_overlaps(tmp_path):
    rows, columns = np.indices(SIZE)
    labels = ((rows + columns // 2) // 25 % 3).astype(np.uint8)  # staircases
    path = write_index_map(tmp_path / "a.tif", labels, PLACES["utm"])
    pixels, polygons = (index_map_to_polygons(path, simplify=s) for s in (0, 0.75))
    assert len(polygons) == len(pixels)
    assert shapely.is_valid(polygons.geometry).all()
    corners = [shapely.get_num_coordinates(p.geometry).sum() for p in (pixels, polygons)]
    assert corners[1] < corners[0] / 5
    total = shapely.area(polygons.geometry).sum()
    union = shapely.union_all(polygons.geometry)
    assert union.area == pytest.approx(total, rel=1e-9)  # no overlap
    assert len(getattr(union, "interiors", [None])) == 0  # no gap
    burnt = burn(polygons, labels.shape, PLACES["utm"].transform)
    assert (burnt == labels).mean() > 0.97
    assert polygons.area_m2.sum() == pytest.approx(labels.size * 0.25, rel=0.01)


def test_masks_of_a_window_lie_where_the_window_lies():
    rng = np.random.default_rng(0)
    dense = rng.random((3, 20, 30)) < 0.4
    dense[1] = False
    window = Tile(60, 40, 90, 60)
    place = PLACES["rotated"]
    polygons = masks_to_polygons(Masks.from_array(dense), place, window)
    assert shapely.is_valid(polygons.geometry).all()
    assert shapely.is_empty(polygons.geometry).tolist() == [False, True, False]
    np.testing.assert_allclose(polygons.area_m2, dense.sum((1, 2)) * 0.25, rtol=1e-9)
    for i in (0, 2):
        burnt = rasterize([polygons.geometry[i]], SIZE, transform=rasterio.Affine(*place.transform))
        np.testing.assert_array_equal(burnt[40:60, 60:90], dense[i])
        assert burnt.sum() == dense[i].sum()


def test_a_raster_without_a_crs_has_polygons_without_areas(tmp_path):
    place = Georeference(None, (2.0, 0.0, 0.0, 0.0, -2.0, 0.0))
    polygons = index_map_to_polygons(write_index_map(tmp_path / "a.tif", draw_index_map(), place))
    assert polygons.crs is None
    assert np.isnan(polygons.area_m2).all()


def test_ground_control_points_are_refused(tmp_path):
    points = tuple(
        (float(x), float(y), 10.0 + x, 50.0 - y, 0.0) for x, y in ((0, 0), (9, 0), (0, 9))
    )
    place = Georeference(wkt(4326), gcps=points)
    path = write_index_map(tmp_path / "a.tif", draw_index_map(), place)
    with pytest.raises(ConfigError, match=r"expected an affine transform; warp it .* gdalwarp"):
        index_map_to_polygons(path)


def test_pixel_sizes_are_metres():
    assert pixel_size(PLACES["rotated"], SIZE) == pytest.approx(0.5)
    geod = pyproj.Geod(ellps="WGS84")
    latitude = 41.4 - 3e-4 * 45.5
    _, _, height = geod.inv(-101.7, latitude - 1.5e-4, -101.7, latitude + 1.5e-4)
    _, _, width = geod.inv(-101.7, latitude, -101.7 + 3e-4, latitude)
    assert pixel_size(PLACES["degrees"], SIZE) == pytest.approx((height * width) ** 0.5, rel=1e-5)
    unknown = areas(np.array([shapely.box(0, 0, 1, 1)]), Georeference())
    assert np.isnan(unknown).all()
