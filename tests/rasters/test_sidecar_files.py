"""Sidecar files are read as GDAL reads them, but only from the same folder and without GDAL."""

import warnings

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from alps.errors import ImageError
from alps.images.files.read import read_pixels
from alps.rasters.raster import Raster
from tests.factories import create_raster
from tests.geo_rasters import ALBERS, GRIDS, create_geo_raster, draw_bands

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

AUX = """<PAMDataset><SRS>{crs}</SRS><GeoTransform>5, 0.25, 0, 9, 0, -0.25</GeoTransform>
<PAMRasterBand band="1"><Description>B02</Description><NoDataValue>33</NoDataValue></PAMRasterBand>
<PAMRasterBand band="2"><NoDataValue>44</NoDataValue></PAMRasterBand></PAMDataset>"""


@pytest.mark.parametrize("georeferenced", [True, False])
def test_aux_xml_is_read_as_by_gdal(tmp_path, georeferenced):
    path = tmp_path / "a.tif"
    bands = draw_bands(2)
    bands[:, :5] = 33
    create = create_geo_raster if georeferenced else create_raster
    create(path, bands, **({"nodata": 9} if georeferenced else {}))
    (tmp_path / "a.tif.aux.xml").write_text(AUX.format(crs=ALBERS.to_wkt()))
    with rasterio.open(path) as file, Raster(path) as raster:
        assert rasterio.CRS.from_wkt(raster.georeference.crs) == file.crs == ALBERS
        assert raster.georeference.transform == tuple(file.transform)[:6]
        assert [band.description for band in raster.bands] == [file.descriptions[0], ""]
        assert file.nodata == 33
        valid = raster.read().valid
    np.testing.assert_array_equal(valid, (bands != 33).any(axis=0))


def test_statistics_change_nothing(tmp_path):
    path = tmp_path / "a.tif"
    create_geo_raster(path, draw_bands(3))
    before = read_pixels(path)
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><Histograms/><Metadata><MDI key='STATISTICS_MEAN'>1"
        "</MDI></Metadata></PAMRasterBand></PAMDataset>"
    )
    after = read_pixels(path)
    np.testing.assert_array_equal(before.image, after.image)
    assert before.georeference == after.georeference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<PAMDataset>", "no element found"),
        ("<PAMDataset><SRS>nonsense</SRS></PAMDataset>", "WKT"),
        ("<PAMDataset><GeoTransform>1,2</GeoTransform></PAMDataset>", "has 2 numbers, expected 6"),
        ("<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><PAMDataset/>", "DTDForbidden"),
    ],
)
def test_a_damaged_aux_xml_is_refused(tmp_path, text, message):
    create_geo_raster(tmp_path / "a.tif", draw_bands(3))
    (tmp_path / "a.tif.aux.xml").write_text(text)
    with pytest.raises(
        ImageError, match=rf"a\.tif: its sidecar a\.tif\.aux\.xml is not valid: .*{message}.*; dele"
    ):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"nodata": 1}])
def test_a_mask_beside_the_raster_is_read_as_by_gdal(tmp_path, options):
    path = tmp_path / "a.tif"
    create_geo_raster(path, draw_bands(3), **options)
    invalid = np.eye(64, 96, dtype=bool)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(~invalid)
    assert (tmp_path / "a.tif.msk").exists()
    np.testing.assert_array_equal(read_pixels(path).valid, ~invalid)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.dataset_mask() > 0, ~invalid)


def test_a_mask_of_another_size_is_refused(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(3))
    create_raster(tmp_path / "b.tif", np.ones((1, 8, 9), np.uint8))
    (tmp_path / "b.tif").rename(tmp_path / "a.tif.msk")
    with pytest.raises(
        ImageError, match=r"its mask a\.tif\.msk has 8 x 9 pixels, expected 64 x 96"
    ):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.tif", "a.tfw"),
        ("a.tif", "a.TFW"),
        ("a.tif", "a.tifw"),
        ("a.tif", "a.wld"),
        ("a.jp2", "a.j2w"),
    ],
)
def test_world_files_are_read_as_by_gdal(tmp_path, name, file):
    create_raster(tmp_path / name, draw_bands(1, dtype=np.uint8))
    (tmp_path / file).write_text("0.5\n0.1\n0.2\n-0.5\n1000\n2000\n")
    with rasterio.open(tmp_path / name) as opened, Raster(tmp_path / name) as raster:
        np.testing.assert_allclose(raster.georeference.transform, tuple(opened.transform)[:6])
        assert raster.georeference.crs is None


def test_a_world_file_does_not_override_the_raster(tmp_path):
    create_geo_raster(tmp_path / "a.tif", draw_bands(1))
    (tmp_path / "a.tfw").write_text("9\n0\n0\n-9\n0\n0\n")
    with Raster(tmp_path / "a.tif") as raster:
        assert raster.georeference.transform == tuple(GRIDS["UTM"][1])[:6]


def test_overviews_change_nothing(tmp_path):
    path = tmp_path / "a.tif"
    create_geo_raster(path, draw_bands(3, (256, 256)))
    before = read_pixels(path)
    with warnings.catch_warnings(), rasterio.Env(TIFF_USE_OVR=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            pass
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4])
    assert (tmp_path / "a.tif.ovr").exists()
    np.testing.assert_array_equal(before.image, read_pixels(path).image)
