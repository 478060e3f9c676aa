"""Bands for networks, read without the 8-bit image."""

import numpy as np
import pytest

from alps.errors import ImageError
from alps.rasters.raster import Raster
from alps.rasters.view import View
from alps.structures.tiles import Tile
from tests.banded import NAMES, create_banded, draw_bands


def view(*names):
    return View(rgb=names[:1], bands=names)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_are_read_as_stored_by_name_and_by_number(tmp_path, dtype, interleave):
    bands = (draw_bands((40, 56))[0] // 50).astype(dtype)
    create_banded(tmp_path / "a.tif", bands, interleave=interleave)
    with Raster(tmp_path / "a.tif", view("B12", "b02", "5", 6)) as raster:
        values, valid = raster.read_bands(Tile(8, 4, 40, 36))
        np.testing.assert_array_equal(raster.read(Tile(8, 4, 40, 36)).bands, values)
    np.testing.assert_array_equal(values, bands[[12, 1, 4, 5], 4:36, 8:40])
    assert (values.dtype, valid) == (dtype, None)


def test_no_data_is_invalid(tmp_path):
    bands = draw_bands((40, 56))[0].astype(np.float32)
    bands[:, :5] = -1  # in all bands
    bands[3, 5:7] = -1  # in one
    bands[4, 7:9] = np.nan
    create_banded(tmp_path / "a.tif", bands, nodata=-1)
    rows = np.arange(40)[:, None].repeat(56, 1)
    with Raster(tmp_path / "a.tif", view("B04", "B05")) as raster:
        valid = raster.read_bands(Tile(0, 0, 56, 40))[1]
        np.testing.assert_array_equal(valid, (rows >= 9) | (rows == 5) | (rows == 6))
        assert not raster.read_bands(Tile(0, 0, 56, 5))[1].any()
    with Raster(tmp_path / "a.tif", view("B03")) as raster:  # other bands do not matter
        np.testing.assert_array_equal(raster.read_bands(Tile(0, 0, 56, 40))[1], rows >= 5)


@pytest.mark.parametrize("name", ["B13", "14", "0"])
def test_a_missing_band_is_an_error(tmp_path, name):
    create_banded(tmp_path / "a.tif", draw_bands((8, 8))[0], NAMES)
    with pytest.raises(ImageError, match=f"cannot read .*a.tif: it has no band '{name}'; its band"):
        Raster(tmp_path / "a.tif", view("B02", name))
