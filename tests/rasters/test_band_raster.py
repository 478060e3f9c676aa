import numpy as np
import pytest

from alps.errors import ConfigError, ImageError
from alps.rasters.bands import BandRaster, check_bands
from alps.structures.tiles import Tile
from tests.banded import NAMES, PLACE, create_banded, draw_bands


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_are_read_as_stored_by_name_and_by_number(tmp_path, dtype, interleave):
    bands = (draw_bands((40, 56))[0] // 50).astype(dtype)
    create_banded(tmp_path / "a.tif", bands, interleave=interleave)
    with BandRaster(tmp_path / "a.tif", ["B12", "b02", "5"]) as raster:
        values, valid = raster.read()
        part, _ = raster.read(Tile(8, 4, 40, 36))
        assert raster.size == (40, 56)
        assert raster.georeference.transform == tuple(PLACE["transform"])[:6]
    np.testing.assert_array_equal(values, bands[[12, 1, 4]])
    np.testing.assert_array_equal(part, values[:, 4:36, 8:40])
    assert (values.dtype, valid) == (dtype, None)


def test_no_data_is_invalid(tmp_path):
    bands = draw_bands((40, 56))[0].astype(np.float32)
    bands[:, :5] = -1  # in all bands
    bands[3, 5:7] = -1  # in one
    bands[4, 7:9] = np.nan
    create_banded(tmp_path / "a.tif", bands, nodata=-1)
    with BandRaster(tmp_path / "a.tif", ["B05"]) as raster:
        valid = raster.read()[1]
        np.testing.assert_array_equal(raster.valid(Tile(0, 0, 56, 40)), valid)
    rows = np.arange(40)[:, None].repeat(56, 1)
    np.testing.assert_array_equal(valid, (rows >= 9) | (rows == 5) | (rows == 6))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["B02", "B13"],
            r"no band B13: expected the bands B02, B13, but the file has 1 \(B01\), 2",
        ),
        (["14"], "no band 14"),
        (["red"], r"its bands \[2, 3\] are all named red: .*; select bands that all files have"),
    ],
)
def test_a_band_that_is_not_unique_is_an_error(tmp_path, names, message):
    described = NAMES if names != ["red"] else ("B01", "red", "Red", *NAMES[3:])
    create_banded(tmp_path / "a.tif", draw_bands((8, 8))[0], described)
    with pytest.raises(ImageError, match=f"cannot read .*a.tif: {message}"):
        BandRaster(tmp_path / "a.tif", names)


def test_complex_numbers_are_refused(tmp_path):
    create_banded(tmp_path / "a.tif", np.ones((1, 8, 8), np.complex64), ["x"], nodata=None)
    with pytest.raises(ImageError, match="it contains complex numbers"):
        BandRaster(tmp_path / "a.tif", ["x"])


@pytest.mark.parametrize("bands", ["B02", [], [0], [1, 1], ["1", 1], [""], [True]])
def test_bands_are_a_list_of_numbers_and_descriptions(bands):
    with pytest.raises(ConfigError, match=r"expected a list of different bands, .* \[1,2,3,8\] or"):
        check_bands(bands)
