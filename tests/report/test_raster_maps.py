"""The report of a store of rasters: places on Earth, and areas of classes counted once."""

import numpy as np
import pytest
import rasterio
from pyproj import Geod

from alps.report.counts.rasters import count_rasters
from alps.report.pages.rasters import raster_section
from alps.report.pages.store import write_report
from alps.structures.georeference import Georeference
from tests.fakes import ArrayRasters
from tests.labelling.test_windows import PLACE, create_scene, label_rasters, read_map

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_areas_are_those_of_the_map_and_overlaps_count_once(tmp_path):
    images = ArrayRasters({"a": create_scene()}, georeference=PLACE)
    store = label_rasters(tmp_path, images)
    (raster,) = count_rasters(store)
    counts = np.bincount(read_map(tmp_path).ravel(), minlength=256)[:3]
    assert raster.class_pixels.tolist() == counts.tolist()
    assert raster.class_area == pytest.approx(counts * 0.25)
    section = raster_section([raster], store.categories())
    assert section["maps"][0].crs == "WGS 84 / UTM zone 16N (EPSG:32616)"
    assert section["maps"][0].gsd == "0.500 m per pixel"
    html = write_report(store, images).read_text()
    assert section["maps"][0].extent in html
    assert "labelled in 15 overlapping windows" in html


def test_areas_of_a_geographic_grid_are_geodesic(tmp_path):
    place = Georeference(rasterio.CRS.from_epsg(4326).to_wkt(), (1e-4, 0.0, 7.0, 0.0, -1e-4, 51.0))
    store = label_rasters(tmp_path, ArrayRasters({"a": create_scene()}, georeference=place))
    (raster,) = count_rasters(store)
    west, south, east, north = raster.grid.bounds()
    assert (west, north) == pytest.approx((7.0, 51.0))
    box = [west, east, east, west], [south, south, north, north]
    expected = abs(Geod(ellps="WGS84").polygon_area_perimeter(*box)[0])
    assert raster.grid.pixel_area * 150 * 210 == pytest.approx(expected, rel=1e-3)


def test_a_raster_without_a_place_has_no_areas(tmp_path):
    store = label_rasters(tmp_path, ArrayRasters({"a": create_scene()}))
    section = raster_section(count_rasters(store), store.categories())
    assert section["unplaced"] == 1
    assert section["classes"] == []
    assert section["maps"][0].crs == "no coordinate reference system"
