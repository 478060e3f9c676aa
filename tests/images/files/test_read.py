import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from alps.errors import ImageError
from alps.images.files.read import read_image, read_pixels, stretch
from alps.rasters import limits
from tests.factories import create_image, create_raster, draw_scene
from tests.matrix.encodings import check, list_encodings

DEEP = draw_scene((40, 60), seed=3)[0].astype(np.uint16) * 8  # 11 bits


def expected_rgb(image):
    """What bands mean: gray thrice, or the first three; of two and four the last is alpha."""
    bands = image.shape[2]
    rgb = np.repeat(image[..., :1], 3, axis=2) if bands < 3 else image[..., :3].copy()
    if bands in (2, 4):
        rgb[image[..., -1] == 0] = 0
    return rgb


def expected_valid(image):
    return image[..., -1] > 0 if image.shape[2] in (2, 4) else np.ones(image.shape[:2], bool)


# --- 8 bits: untouched --------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_bit_values_are_unchanged(tmp_path, suffix, channels):
    image = create_image(tmp_path / f"a{suffix}", (31, 47), channels=channels)
    pixels = read_pixels(tmp_path / f"a{suffix}")
    assert pixels.image.dtype == np.uint8
    assert pixels.image.flags.c_contiguous
    if suffix == ".tif" and channels == 2:  # whose second band does not say that it is alpha
        image = image[..., :1]
    np.testing.assert_array_equal(pixels.image, expected_rgb(image))
    if channels in (1, 3):
        assert pixels.valid is None
    elif image.shape[2] == channels:
        np.testing.assert_array_equal(pixels.valid, expected_valid(image))


@pytest.mark.parametrize(("name", "options"), [("a.bmp", {}), ("a.webp", {"lossless": True})])
def test_other_lossless_formats(tmp_path, name, options):
    image = draw_scene((31, 47))[0]
    Image.fromarray(image).save(tmp_path / name, **options)
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), image)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_read_as_by_pillow(tmp_path, mode):
    Image.fromarray(draw_scene()[0]).convert(mode).save(tmp_path / "a.JPG")
    with Image.open(tmp_path / "a.JPG") as image:
        np.testing.assert_array_equal(read_image(tmp_path / "a.JPG"), image.convert("RGB"))


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(16))])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette(tmp_path, suffix, transparency):
    image = Image.fromarray(draw_scene()[0]).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / f"a{suffix}", **options)
    pixels = read_pixels(tmp_path / f"a{suffix}")
    hidden = np.zeros(pixels.size, bool)
    if suffix == ".png" and transparency is not None:  # the entry whose alpha is 0
        hidden = np.asarray(image) == (transparency if isinstance(transparency, int) else 0)
    expected = np.asarray(image.convert("RGB")).copy()
    expected[hidden] = 0
    np.testing.assert_array_equal(pixels.image, expected)
    assert (pixels.valid is None) == (not hidden.any())
    if hidden.any():
        np.testing.assert_array_equal(pixels.valid, ~hidden)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "lzw.tif"])
def test_black_and_white(tmp_path, name):
    image = Image.fromarray(draw_scene()[0]).convert("1")
    image.save(tmp_path / name, compression="group4" if name == "lzw.tif" else None)
    np.testing.assert_array_equal(read_image(tmp_path / name), image.convert("RGB"))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_tiff_that_needs_libtiff(tmp_path, mode):
    image = Image.fromarray(create_image(tmp_path / "a.png", channels=4)).convert(mode)
    image.save(tmp_path / "a.tif", compression="tiff_lzw")
    array = np.asarray(image).reshape(*image.size[::-1], -1)
    array = array if mode in ("LA", "RGBA") else np.atleast_3d(array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected_rgb(array))


def test_the_format_is_detected_from_the_content(tmp_path):
    image = create_image(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), image)


# --- orientation --------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "png16", "tif", "lzw", "tif16", "lzw16"])
def test_orientation_is_applied(tmp_path, kind, orientation):
    image = draw_scene((20, 33))[0]
    upright = Image.fromarray(image)
    exif = upright.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind[:3].replace('lzw', 'tif')}"
    if kind == "jpg":
        upright.save(path, exif=exif, quality=100, subsampling=0)
    elif kind == "png":
        upright.save(path, exif=exif)
    elif kind == "png16":
        upright.save(path, exif=exif)
        block = next(chunk for chunk in png_chunks(path) if chunk[4:8] == b"eXIf")
        assert cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 8)
        data = path.read_bytes()
        path.write_bytes(data[:33] + block + data[33:])
    elif kind == "lzw":
        upright.save(path, compression="tiff_lzw", tiffinfo={0x0112: orientation})
    elif kind == "lzw16":
        assert cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 8)
        data = path.read_bytes()
        entry = struct.pack("<HHI", 0x0112, 3, 1)
        if entry in data:
            at = data.index(entry) + 8
            path.write_bytes(data[:at] + struct.pack("<I", orientation) + data[at + 4 :])
        else:
            insert_tiff_orientation(path, orientation)
    else:
        depth = image if kind == "tif" else image.astype(np.uint16) * 8
        tag = (0x0112, 3, 1, orientation, True)
        tifffile.imwrite(path, depth, photometric="rgb", extratags=[tag])

    stored = image if kind in ("jpg", "png", "tif", "lzw") else stretch(image.astype(np.uint16) * 8)
    turned = Image.fromarray(stored)
    turned.getexif()[0x0112] = orientation
    reference = np.asarray(ImageOps.exif_transpose(turned))
    result = read_image(path)
    assert result.shape == reference.shape
    assert np.abs(result.astype(int) - reference).max() <= (12 if kind == "jpg" else 0)


def png_chunks(path):
    data, at = path.read_bytes(), 8
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0] + 12
        yield data[at : at + length]
        at += length


def insert_tiff_orientation(path, orientation):
    """Move the only directory to the end of a little-endian TIFF, with the tag added."""
    data = path.read_bytes()
    (at,) = struct.unpack("<I", data[4:8])
    (n,) = struct.unpack("<H", data[at : at + 2])
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(n)]
    entries.append(struct.pack("<HHII", 0x0112, 3, 1, orientation))
    directory = struct.pack("<H", n + 1) + b"".join(sorted(entries, key=lambda e: e[1::-1]))
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:] + directory + bytes(4))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_affect_the_image(tmp_path):
    image = Image.fromarray(draw_scene()[0])
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage")
    image.save(tmp_path / "b.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg"))


# --- more than 8 bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_images_are_equal_in_all_formats(tmp_path, channels):
    bands = np.dstack([DEEP, DEEP[..., 0] // 2])[..., :channels]
    gray = bands.squeeze()
    order = gray if channels == 1 else bands[..., [2, 1, 0, 3][:channels]]
    kind = "minisblack" if channels == 1 else "rgb"
    if channels < 4:  # of which the fourth is alpha
        assert cv2.imwrite(str(tmp_path / "a.png"), order)
        assert cv2.imwrite(str(tmp_path / "lzw.tif"), order)
    tifffile.imwrite(tmp_path / "contig.tif", gray, photometric=kind)
    tifffile.imwrite(
        tmp_path / "zip.tif", gray, photometric=kind, compression="zlib", tile=(16, 16)
    )
    tifffile.imwrite(tmp_path / "big.tif", gray, photometric=kind, bigtiff=True, byteorder=">")
    planar = np.moveaxis(bands, 2, 0)
    if channels > 1:
        tifffile.imwrite(tmp_path / "planar.tif", planar, photometric=kind, planarconfig="separate")
    expected = expected_rgb(stretch(bands[..., : 1 if channels < 3 else 3]))
    files = sorted(tmp_path.iterdir())
    assert len(files) == {1: 5, 3: 6, 4: 4}[channels]
    for path in files:
        np.testing.assert_array_equal(read_image(path), expected, err_msg=path.name)


def test_float_lzw(tmp_path):
    image = DEEP.astype(np.float32) / 2047
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 5]
    assert cv2.imwrite(str(tmp_path / "lzw.tif"), image[..., ::-1], options)
    tifffile.imwrite(tmp_path / "plain.tif", image, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif"), stretch(image))
    np.testing.assert_array_equal(read_image(tmp_path / "plain.tif"), stretch(image))


def test_stretch_is_linear_between_the_percentiles():
    low, high = np.percentile(DEEP, (0.5, 99.5))
    expected = np.clip((DEEP - low) / (high - low), 0, 1) * 255
    result = stretch(DEEP)
    assert np.abs(result - expected).max() < 0.501
    assert result.min() == 0
    assert result.max() == 255


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32, np.float64])
def test_stretch_does_not_depend_on_unit_and_offset(dtype):
    moved = (DEEP.astype(np.float64) * 4 + 1000).astype(dtype)
    assert np.abs(stretch(moved).astype(int) - stretch(DEEP)).max() <= 1


def test_stretch_keeps_the_order_of_bands():
    result = stretch(DEEP).astype(int)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        more = DEEP[..., a] > DEEP[..., b]
        assert (result[..., a] >= result[..., b])[more].all()


def test_a_few_bright_pixels_do_not_darken_the_image():
    glinting = DEEP.copy()
    glinting[0, :5] = 65535
    assert np.abs(stretch(glinting)[1:].astype(int) - stretch(DEEP)[1:]).mean() < 3


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_image_is_black(value):
    assert not stretch(np.full((4, 5, 3), value, np.uint16)).any()


def test_rare_objects_on_a_constant_background_remain_visible():
    image = np.full((100, 100, 1), 300, np.uint16)
    image[50, 50] = 900
    result = stretch(image)
    assert result[50, 50] == 255
    assert result.sum() == 255


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_nodata_becomes_zero_and_does_not_affect_the_stretch(tmp_path, hole):
    image = DEEP.astype(np.float32)
    image[:, 30:] = hole
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    result = read_image(tmp_path / "a.tif")
    assert not result[:, 30:].any()
    np.testing.assert_array_equal(result[:, :30], stretch(DEEP[:, :30]))


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("-9999", -9999),
        ("-3.4028234663852886e+38", np.finfo(np.float32).min),
        ("-1.7976931348623157e+308", -np.inf),
        ("nan", np.nan),
        ("none", 0),
    ],
)
def test_nodata_values_of_gdal_are_applied(tmp_path, tag, value):
    image = DEEP.astype(np.float32)
    image[:, 30:] = value
    tag = (42113, "s", 0, tag, True)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extratags=[tag])
    result = read_image(tmp_path / "a.tif")
    assert not result[:, 30:].any()
    np.testing.assert_array_equal(result[:, :30], stretch(DEEP[:, :30]))


def test_an_image_of_nodata_is_read():
    assert not stretch(np.full((3, 4, 1), np.nan, np.float32)).any()


@pytest.mark.parametrize("encoding", list(list_encodings())[::45], ids=str)
def test_a_tiff_is_read_as_by_tifffile(encoding, tmp_path):
    """All encodings: make test-matrix."""
    assert check(encoding, tmp_path) == ("refused" if encoding.refused else "equal")


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 20, 30), (2, 20, 30, 3), (3, 20, 30)])
def test_other_bands_are_refused(tmp_path, shape):
    kind = "rgb" if len(shape) == 4 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint16), photometric=kind)
    with pytest.raises(ImageError, match=r"a\.tif: .*expected 1 to 4 bands"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "16.png",
        "a.jpg",
        "a.bmp",
        "a.webp",
        "a.tif",
        "zip.tif",
        "lzw.tif",
        "lzw16.tif",
        "a.jp2",
    ],
)
def test_truncated_files_are_refused(tmp_path, name, part):
    path = tmp_path / name
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    if name.endswith("16.png") or name == "lzw16.tif":
        assert cv2.imwrite(str(path), image.astype(np.uint16) * 200)
    elif name == "zip.tif":
        tifffile.imwrite(path, image, photometric="rgb", compression="zlib", rowsperstrip=8)
    elif name == "a.tif":
        tifffile.imwrite(path, image, photometric="rgb")
    elif name == "a.jp2":
        create_raster(path, image.transpose(2, 0, 1))
    else:
        Image.fromarray(image).save(path, compression="tiff_lzw" if name == "lzw.tif" else None)
    read_image(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageError, match=f"cannot read .*{name}: ."):
        read_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"<html>no</html>", b"MM"]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png: " if content else r"a\.png: the file is empty"):
        read_image(tmp_path / "a.png")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_huge_png_is_refused_before_it_is_decoded(tmp_path, depth):
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, depth, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + bytes([0, 0, 1, 0]) + b"IDAT")
    with pytest.raises(ImageError, match="100000 x 100000 pixels, the limit is 1073741824"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_limit_counts_pixels(tmp_path, monkeypatch, suffix):
    create_image(tmp_path / f"a{suffix}", (20, 30))
    monkeypatch.setattr(limits, "MAX_PIXELS", 600)
    read_image(tmp_path / f"a{suffix}")
    monkeypatch.setattr(limits, "MAX_PIXELS", 599)
    with pytest.raises(ImageError, match="the limit is 599"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_the_limit_of_pillow_is_restored(tmp_path, monkeypatch, name):
    image = draw_scene((20, 30))[0]
    Image.fromarray(image).save(tmp_path / name, lossless=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(read_image(tmp_path / name), image)
    assert Image.MAX_IMAGE_PIXELS == 100
