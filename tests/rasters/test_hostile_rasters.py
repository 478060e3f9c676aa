"""Rasters that name other files, or fill the memory."""

import struct
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio._env import get_gdal_config

from alps.errors import ImageError
from alps.images.files.labels import read_labels
from alps.images.files.read import read_image, read_pixels
from alps.images.plain.folder import Folder
from alps.rasters.gdal import CACHE_BYTES, OPTIONS, gdal_session
from alps.rasters.sidecars import find_sidecars
from tests.factories import create_image, create_raster, draw_scene
from tests.mutants import Mutants

VRT = """<VRTDataset rasterXSize="{width}" rasterYSize="{height}">
<VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>
</SimpleSource></VRTRasterBand></VRTDataset>"""
SIZE = (40, 56)
BANDS = draw_scene(SIZE)[0].transpose(2, 0, 1)


@pytest.fixture
def secret(tmp_path):
    """A raster outside of the folder of the images, of one value that no image has."""
    path = tmp_path / "outside/secret.tif"
    create_raster(path, np.full((1, *SIZE), 251, np.uint8))
    return path


def write_vrt(path, source):
    path.write_text(VRT.format(height=SIZE[0], width=SIZE[1], source=source))


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_a_vrt_called_tif_is_not_followed(tmp_path, secret, read):
    write_vrt(tmp_path / "a.tif", secret)
    with pytest.raises(Exception, match=r"cannot read .*a\.tif: cannot identify image file"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".ovr", ".aux.xml"])
def test_files_beside_a_raster_are_not_followed(tmp_path, secret, suffix):
    create_raster(tmp_path / "in/a.tif", BANDS, photometric="RGB")
    path = tmp_path / f"in/a.tif{suffix}"
    if suffix == ".aux.xml":
        path.write_text(
            f"<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{secret}</MDI>"
            "</Metadata><PAMRasterBand band='1'><NoDataValue>90</NoDataValue></PAMRasterBand>"
            "</PAMDataset>"
        )
    else:
        write_vrt(path, secret)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "in/a.tif") as file:  # so that there is something to follow
            assert len(file.files) > 1 or suffix == ".aux.xml"
    secret.unlink()
    pixels = read_pixels(tmp_path / "in/a.tif")
    np.testing.assert_array_equal(pixels.image, BANDS.transpose(1, 2, 0))
    assert pixels.valid is None
    assert Folder(str(tmp_path / "in"), "x").findings() == []


def test_a_mask_that_names_other_files_is_refused(tmp_path, secret):
    create_raster(tmp_path / "in/a.tif", BANDS, photometric="RGB")
    write_vrt(tmp_path / "in/a.tif.msk", secret)
    with pytest.raises(ImageError, match=r"in/a\.tif: its mask a\.tif\.msk is not a TIFF; delete"):
        read_pixels(tmp_path / "in/a.tif")


def test_sidecars_that_are_not_read_are_counted():
    paths = ["a.tif", "a.aux", "a.tif.msk", "b/a.TIF", "b/a.aux", "c.jp2", "d.png", "d.png.aux.xml"]
    (finding,) = find_sidecars(paths)
    assert finding.count == 2
    assert "2 rasters have a sidecar file .aux that is not read (first: a.aux), so" in str(finding)
    assert finding.remedy == "write them into the rasters: gdal_translate a.tif out.tif"
    assert find_sidecars(["a.tif", "b.tif.msk", "c.aux"]) == []


@pytest.mark.parametrize(
    "name", ["a#b.tif", "a?b.tif", "a:b.tif", "zip:a.tif", "GTIFF_DIR:2:a.tif", "a!b.tif", "é.tif"]
)
def test_a_file_name_is_not_interpreted_by_gdal(tmp_path, name):
    create_raster(tmp_path / "a.tif", BANDS, photometric="RGB")
    (tmp_path / "a.tif").rename(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), BANDS.transpose(1, 2, 0))


def test_gdal_settings_apply_in_threads(tmp_path):
    expected = {**OPTIONS, "GDAL_CACHEMAX": CACHE_BYTES}

    def settings(_):
        with gdal_session(tmp_path):
            return {name: get_gdal_config(name) for name in expected}

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(settings, range(40)):
            assert {name: str(value) for name, value in found.items()} == {
                name: str(value) for name, value in expected.items()
            }


def test_gdal_settings_in_the_environment_are_ignored(tmp_path, monkeypatch):
    create_raster(tmp_path / "a.tif", BANDS, photometric="RGB")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    monkeypatch.setenv("GTIFF_IGNORE_READ_ERRORS", "YES")
    with pytest.raises(ImageError, match=r"cannot read .*a\.tif: .*[Rr]ead error"):
        read_image(tmp_path / "a.tif")


def test_a_huge_tile_is_not_decoded(tmp_path):
    create_raster(
        tmp_path / "a.tif", BANDS, tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for tag in (322, 323):
        at = data.index(struct.pack("<HHI", tag, 3, 1)) + 8
        data[at : at + 4] = struct.pack("<HH", 32768, 0)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(
        ImageError, match=r"blocks of 32768 x 32768 pixels of 3 bytes in a file of [0-9]+ by"
    ):
        read_image(tmp_path / "a.tif")


def test_a_huge_jpeg_2000_is_not_decoded(tmp_path):
    create_raster(tmp_path / "a.j2k", BANDS[:1])
    data = bytearray((tmp_path / "a.j2k").read_bytes())
    start = data.index(b"\xffO\xffQ") + 8
    for field in (0, 1, 4, 5):  # of the image, and of its tiles
        data[start + 4 * field : start + 4 * field + 4] = struct.pack(">I", 30_000)
    (tmp_path / "a.j2k").write_bytes(data)
    with pytest.raises(
        ImageError, match=r"30000 x 30000 pixels of 4 bytes in a file of [0-9]+ bytes: da"
    ):
        read_image(tmp_path / "a.j2k")


def _sum(path: Path) -> int:
    return int(read_image(path).sum())


def test_threads_and_processes_read_the_same_pixels(tmp_path, capfd):
    create_image(tmp_path / "a.tif")
    write_vrt(tmp_path / "a.tif.ovr", tmp_path / "nothing.tif")
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:5000])
    expected = _sum(tmp_path / "a.tif")
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(_sum, [tmp_path / "a.tif"] * 40)} == {expected}
        with pytest.raises(ImageError, match=r"b\.tif"):
            pool.submit(_sum, tmp_path / "b.tif").result()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(_sum, tmp_path / "a.tif").result() == expected
        with pytest.raises(ImageError, match=r"b\.tif"):
            pool.submit(_sum, tmp_path / "b.tif").result()
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_2000_with_endless_metadata_is_read(tmp_path):
    """The mutant that made it look for COMPRESSION_REVERSIBILITY in the same few bytes for ever."""
    root = Mutants(tmp_path).make("JPEG 2000", 7_000_326)
    assert read_image(root / "a.jp2").shape == (*SIZE, 3)
