from itertools import product

import numpy as np
import pytest
import rasterio
import tifffile

from alps.errors import ImageError
from alps.images.files.read import read_pixels
from alps.rasters import raster as module
from alps.rasters.raster import Raster
from alps.rasters.stretch import stretch
from alps.structures.tiles import Tile
from tests.factories import create_raster, draw_scene

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def bands(size=(64, 96), dtype=np.uint8, channels=3, seed=0):
    """(C, H, W); deep ones hold 11 bits or reflectances and have no zeros."""
    image = draw_scene(size, seed)[0].transpose(2, 0, 1)
    image = np.concatenate([image, image])[:channels]
    if dtype == np.uint16:
        return image.astype(np.uint16) * 8 + 1
    return image if dtype == np.uint8 else (image.astype(dtype) + 1) / 256


def whole(raster):
    return Tile(0, 0, raster.size[1], raster.size[0])


def read(path):
    """The whole at once and by windows, which must be the same."""
    with Raster(path) as raster:
        pixels, everywhere = raster.read(), raster.valid(whole(raster))
    with Raster(path) as raster:
        part = raster.read(Tile(10, 20, 50, 33))
        np.testing.assert_array_equal(part.image, pixels.image[20:33, 10:50])
        valid = np.ones(pixels.size, bool) if pixels.valid is None else pixels.valid
        np.testing.assert_array_equal(raster.valid(Tile(10, 20, 50, 33)), valid[20:33, 10:50])
        if part.valid is not None:
            np.testing.assert_array_equal(part.valid, valid[20:33, 10:50])
    np.testing.assert_array_equal(everywhere, valid)
    return pixels


# --- pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_windows_equal_parts_of_the_whole(tmp_path, channels, dtype):
    array = bands(dtype=dtype, channels=channels)
    array = (array * 1000).astype(dtype) if dtype == np.int16 else array
    kind = {"photometric": "RGB", "alpha": "NO"} if channels > 2 else {"photometric": "MINISBLACK"}
    create_raster(tmp_path / "a.tif", array, **kind)
    pixels = read(tmp_path / "a.tif")
    assert pixels.valid is None
    colors = array[:3] if channels > 2 else array[:1]
    expected = (
        stretch(colors.transpose(1, 2, 0)) if dtype != np.uint8 else colors.transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(pixels.image, np.broadcast_to(expected, pixels.image.shape))


@pytest.mark.parametrize("tiled", [True, False])
def test_all_windows_share_one_stretch(tmp_path, monkeypatch, tiled):
    array = bands((200, 300), dtype=np.uint16)
    create_raster(tmp_path / "a.tif", array, tiled=tiled, blockxsize=64, blockysize=16)
    monkeypatch.setattr(module, "SAMPLE_PIXELS", 5000)
    monkeypatch.setattr(module, "PART_PIXELS", 1000)
    image = read(tmp_path / "a.tif").image
    exact = stretch(array.transpose(1, 2, 0)).astype(int)
    assert np.abs(image - exact).max() <= 4


def test_declared_colours_of_bands_are_used(tmp_path):
    array = bands(channels=4)
    path = tmp_path / "a.tif"
    create_raster(path, array, photometric="MINISBLACK", alpha="NO")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [rasterio.enums.ColorInterp[n] for n in ("blue", "green", "red", "nir")]
    np.testing.assert_array_equal(read(path).image, array[[2, 1, 0]].transpose(1, 2, 0))


def test_three_bands_are_rgb_whatever_is_declared(tmp_path):
    create_raster(tmp_path / "a.tif", bands(), photometric="MINISBLACK", interleave="pixel")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").image, bands().transpose(1, 2, 0))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_inverted_gray_is_read(tmp_path, bits):
    gray = (np.arange(64 * 96) % (1 << min(bits, 8))).reshape(1, 64, 96)
    gray = (gray * 256).astype(np.uint16) if bits > 8 else gray.astype(np.uint8)
    options = {"nbits": bits} if bits < 8 else {}
    create_raster(tmp_path / "white.tif", gray, photometric="MINISWHITE", **options)
    create_raster(tmp_path / "black.tif", gray, photometric="MINISBLACK", **options)
    black = read(tmp_path / "black.tif").image
    assert (black.min(), black.max()) == (0, 255)
    np.testing.assert_array_equal(read(tmp_path / "white.tif").image, 255 - black)


def test_palettes_are_converted_to_colours(tmp_path):
    array = bands(channels=1)
    create_raster(tmp_path / "a.tif", array, nodata=int(array[0, 0, 0]))
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.write_colormap(1, {i: (255 - i, i // 2, 7) for i in range(256)})
    pixels = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels.image[..., 0], 255 - array[0])
    np.testing.assert_array_equal(pixels.image[..., 1], array[0] // 2)
    np.testing.assert_array_equal(pixels.valid, array[0] != array[0, 0, 0])


# --- valid pixels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *product(("alpha", "mask", "nodata"), (np.uint8, np.uint16, np.float32)),
        ("nan", np.float32),
        ("nan", np.float64),
    ],
)
def test_nodata_pixels_are_invalid(tmp_path, kind, dtype):
    array = bands(dtype=dtype, channels=4 if kind == "alpha" else 3)
    invalid = np.zeros((64, 96), bool)
    invalid[:10] = True
    plain = (
        stretch(array[:3].transpose(1, 2, 0), ~invalid)
        if dtype != np.uint8
        else array[:3].transpose(1, 2, 0)
    )
    options = {"photometric": "RGB"}
    if kind == "alpha":
        array[3] = 255
        array[3, :10] = 0
        options["alpha"] = "YES"
    elif kind == "nodata":
        array[:, :10] = options["nodata"] = 77
        array[0, 30, 40] = 77  # in one band alone it is a value
        plain = None
    elif kind == "nan":
        array[1, :5] = np.nan
        array[2, 5:10] = np.inf
    create_raster(tmp_path / "a.tif", array, **options)
    if kind == "mask":
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(tmp_path / "a.tif", "r+") as file,
        ):
            file.write_mask(~invalid)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").valid, ~invalid)
    pixels = read_pixels(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels.valid, ~invalid)
    assert not pixels.image[invalid].any()
    if plain is not None:
        np.testing.assert_array_equal(pixels.image[~invalid], plain[~invalid])


def test_masked_values_do_not_affect_the_image(tmp_path):
    images = []
    for value in (1, 65535, "noise"):
        array = bands(dtype=np.uint16, channels=4)
        noise = np.random.default_rng(0).integers(0, 65536, (3, 20, 96), np.uint16)
        array[:3, :20] = noise if value == "noise" else value
        array[3] = 1000
        array[3, :20] = 0
        create_raster(tmp_path / "a.tif", array, photometric="RGB", alpha="YES")
        images.append(read_pixels(tmp_path / "a.tif").image)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_gray_with_16_bit_alpha_is_read(tmp_path):
    """Alpha of 65535 would make the rest nearly black."""
    gray = bands(dtype=np.uint16, channels=1)
    array = np.concatenate([gray, np.full_like(gray, 65535)])
    create_raster(tmp_path / "a.tif", array, alpha="YES", compress="lzw", interleave="band")
    pixels = read(tmp_path / "a.tif")
    assert pixels.valid is None
    np.testing.assert_array_equal(pixels.image[..., :1], stretch(gray.transpose(1, 2, 0)))


def test_zeros_are_valid_unless_declared_as_nodata(tmp_path):
    """They do not count in the stretch, as a border mostly consists of them."""
    array = bands(dtype=np.uint16)
    array[:, :10] = 0
    create_raster(tmp_path / "a.tif", array)
    pixels = read(tmp_path / "a.tif")
    assert pixels.valid is None
    np.testing.assert_array_equal(pixels.image[10:], stretch(array[:, 10:].transpose(1, 2, 0)))


@pytest.mark.parametrize("nodata", [None, 0])
def test_a_raster_of_zeros_is_read(tmp_path, nodata):
    create_raster(tmp_path / "a.tif", np.zeros((3, 64, 96), np.uint16), nodata=nodata)
    pixels = read(tmp_path / "a.tif")
    assert not pixels.image.any()
    assert pixels.valid is None if nodata is None else not pixels.valid.any()


@pytest.mark.parametrize(("nodata", "dtype"), [(-9999, np.float32), (1e40, np.float64)])
def test_an_unused_nodata_value_is_ignored(tmp_path, nodata, dtype):
    create_raster(tmp_path / "a.tif", bands(dtype=dtype), nodata=nodata)
    assert read(tmp_path / "a.tif").valid is None


def test_a_pixel_is_invalid_only_if_all_bands_are_nodata(tmp_path):
    array = bands(channels=4)
    array[:3, :10] = array[:, 10:20] = 0
    create_raster(tmp_path / "a.tif", array, photometric="RGB", alpha="NO", nodata=0)
    valid = read(tmp_path / "a.tif").valid
    assert valid[:10].all()
    assert not valid[10:20].any()


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 8, 9), np.uint8), r"it has 5 bands, expected 1 to 4; write red, green and"),
        (np.zeros((1, 8, 9), np.complex64), r"complex numbers \(complex64\).*gdal_calc\.py -A"),
    ],
)
def test_unsupported_rasters_are_refused(tmp_path, array, message):
    create_raster(tmp_path / "a.tif", array, photometric="MINISBLACK", alpha="NO")
    with pytest.raises(ImageError, match=rf"cannot read .*a\.tif: .*{message}"):
        Raster(tmp_path / "a.tif")


def test_pages_of_equal_size_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", bands(), photometric="minisblack")
    with pytest.raises(ImageError, match=r"3 pages of the same size.*gdal_merge\.py -separate"):
        Raster(tmp_path / "a.tif")


def test_pages_of_other_sizes_are_ignored(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(bands().transpose(1, 2, 0), photometric="rgb")
        file.write(bands((8, 9)).transpose(1, 2, 0), photometric="rgb")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").image, bands().transpose(1, 2, 0))


def test_a_missing_codec_is_reported_with_a_remedy(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", bands()[0], compression="jpegxl")
    with pytest.raises(ImageError) as error:
        Raster(tmp_path / "a.tif")
    assert "compressed with JPEG XL, which the installed GDAL lacks" in str(error.value)
    assert "gdal_translate -co COMPRESS=DEFLATE in.tif out.tif" in str(error.value)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"\x89PNG and so on")
    with pytest.raises(ImageError, match=r"a\.tif: it is neither a TIFF nor a JPEG 2000 file"):
        Raster(tmp_path / "a.tif")
