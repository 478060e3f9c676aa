import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from alps.errors import LabelError
from alps.images.files.labels import colors_to_index, read_colors, read_labels, refuse_unlabelled
from alps.images.pixels.isprs import CLASSES
from alps.structures.palette import distinct_colors, index_png
from tests.factories import create_raster

LABELS = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
COLORS = {color: i for i, (_, color) in enumerate(CLASSES)}


def packed(labels, bits):
    """Rows of numbers of a few bits each."""
    planes = np.unpackbits(labels[..., None], axis=2)[..., 8 - bits :].reshape(len(labels), -1)
    return [np.packbits(row).tobytes() for row in planes]


WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE = 0, 1, 3
PLAIN, DEFLATE = 1, 8


def tiff(labels, bits, photometric, *, compression=PLAIN, order="<"):
    """As GDAL writes NBITS=1, 2 or 4, which neither Pillow nor tifffile does."""
    rows = b"".join(packed(labels, bits))
    if compression == DEFLATE:
        rows = zlib.compress(rows)
    colors = bytes(6 << bits) if photometric == PALETTE else b""  # all are black
    tags = {
        256: labels.shape[1],
        257: len(labels),
        258: bits,
        259: compression,
        262: photometric,
        273: 0,
        277: 1,
        278: len(labels),
        279: len(rows),
        **({320: 0} if colors else {}),
    }
    start = 8 + 2 + 12 * len(tags) + 4
    tags |= {273: start + len(colors)} | ({320: start} if colors else {})
    counts = dict.fromkeys(tags, 1) | {320: len(colors) // 2}
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, value in tags.items():
        inside = counts[tag] == 1 and tag not in (273, 279)  # a short, else a long
        field = struct.pack(f"{order}HH", value, 0) if inside else struct.pack(f"{order}I", value)
        kind = 4 if tag in (273, 279) else 3
        content += struct.pack(f"{order}HHI", tag, kind, counts[tag]) + field
    return content + bytes(4) + colors + rows


def gray_png(labels, bits):
    """Pillow writes no gray PNG of 2 or 4 bits."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row for row in packed(labels, bits))
    header = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def same(path, expected, dtype=np.uint8):
    found = read_labels(path)
    assert found.dtype == dtype
    assert found.flags.writeable
    np.testing.assert_array_equal(found, expected)


def test_stored_numbers_are_read_in_all_modes(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "gray.png")
    (tmp_path / "palette.png").write_bytes(index_png(LABELS, distinct_colors(4), 255))
    image = Image.fromarray(LABELS)
    image.putpalette([255, 0, 0] * 4)  # equal colours stay different numbers
    image.save(tmp_path / "few.png", bits=2)
    for bits in (2, 4, 8):
        (tmp_path / f"gray{bits}.png").write_bytes(gray_png(LABELS, bits))
    tifffile.imwrite(tmp_path / "a.tif", LABELS)
    Image.fromarray(LABELS).save(tmp_path / "lzw.TIF", compression="tiff_lzw")
    paths = list(tmp_path.iterdir())
    assert len(paths) == 8
    for path in paths:
        same(path, LABELS)


def test_one_bit_labels_are_read(tmp_path):
    Image.fromarray(LABELS > 1).save(tmp_path / "a.png")
    same(tmp_path / "a.png", LABELS > 1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [PLAIN, DEFLATE])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_few_bits_of_a_tiff(tmp_path, bits, photometric, compression, order):
    labels = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, 0)
    content = tiff(labels, bits, photometric, compression=compression, order=order)
    (tmp_path / "a.tif").write_bytes(content)
    same(tmp_path / "a.tif", labels)


def test_a_tiff_without_photometric_tag_is_read(tmp_path):
    content = bytearray(tiff(LABELS, 2, BLACK_IS_ZERO))
    at = content.index(struct.pack("<HH", 262, 3))
    content[at : at + 2] = struct.pack("<H", 263)  # another tag
    (tmp_path / "a.tif").write_bytes(content)
    same(tmp_path / "a.tif", LABELS)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sixteen_bits(tmp_path, byteorder):
    labels = LABELS.astype(np.uint16) * 300
    Image.fromarray(labels).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", labels, byteorder=byteorder)
    for path in tmp_path.iterdir():
        same(path, labels, np.uint16)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "int64", "float32"])
@pytest.mark.parametrize("top", [3, 900])
def test_whole_numbers_of_any_tiff_type_are_read(tmp_path, dtype, top):
    labels = np.minimum(LABELS.astype(np.uint16) * 300, top)
    if top > 127 and dtype == "int8":
        dtype = "int16"
    create_raster(tmp_path / "a.tif", labels.astype(dtype)[None], compress="lzw", predictor=1)
    same(tmp_path / "a.tif", labels, np.uint8 if top < 256 else np.uint16)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int16", -1), ("int32", 65536), ("float32", 1.5), ("float32", np.nan), ("float64", np.inf)],
)
def test_invalid_class_numbers_are_refused(tmp_path, dtype, value):
    labels = LABELS.astype(dtype)
    labels[7, 5] = value
    create_raster(tmp_path / "a.tif", labels[None])
    message = (
        rf"a\.tif contains {value} in row 7, column 5 \({dtype}\), expected class numbers from 0"
    )
    with pytest.raises(LabelError, match=message):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{"nodata": 1}, {"photometric": "MINISWHITE"}, {"nbits": 2}])
def test_tiff_metadata_does_not_change_the_numbers(tmp_path, options):
    create_raster(tmp_path / "a.tif", LABELS[None], **options)
    same(tmp_path / "a.tif", LABELS)


def test_a_colour_declared_as_nodata_is_kept(tmp_path):
    rgb = np.array([color for _, color in CLASSES], np.uint8)[LABELS].transpose(2, 0, 1)
    create_raster(tmp_path / "a.tif", rgb, nodata=255)
    labels = colors_to_index(read_colors(tmp_path / "a.tif"), COLORS, "a.tif")
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("name", "array", "kind"),
    [
        ("a.png", np.zeros((4, 5, 3), np.uint8), "PNG in mode RGB"),
        ("a.png", np.zeros((4, 5, 2), np.uint8), "PNG in mode LA"),
        ("a.jpg", np.zeros((4, 5), np.uint8), "JPEG in mode L"),
        ("a.tif", np.zeros((4, 5, 3), np.uint8), "TIFF with 3 bands"),
    ],
)
def test_other_images_are_refused(tmp_path, name, array, kind):
    Image.fromarray(array).save(tmp_path / name)
    with pytest.raises(LabelError, match=rf"{name} is a {kind}, expected an index map: .* colours"):
        read_labels(tmp_path / name)


def test_damaged_files_are_errors(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:80])
    for read in (read_labels, read_colors):
        with pytest.raises(LabelError, match=r"cannot read .*a\.png: ."):
            read(tmp_path / "a.png")
        with pytest.raises(LabelError, match=r"cannot read .*b\.png: .*No such file"):
            read(tmp_path / "b.png")


def test_colours_are_converted_to_numbers(tmp_path):
    labels = np.random.default_rng(0).integers(0, 6, (1100, 7)).astype(np.uint8)
    rgb = np.array([color for _, color in CLASSES], np.uint8)[labels]
    np.testing.assert_array_equal(colors_to_index(rgb, COLORS, "a.png"), labels)


def test_colours_may_share_a_number_and_map_to_255():
    rgb = np.array([[(0, 0, 0), (1, 2, 3), (3, 2, 1)]], np.uint8)
    colors = {(0, 0, 0): 255, (1, 2, 3): 7, (3, 2, 1): 7}
    assert colors_to_index(rgb, colors, "a.png").tolist() == [[255, 7, 7]]


def test_the_error_names_an_unknown_colour_and_its_position():
    rgb = np.full((600, 9, 3), 255, np.uint8)
    rgb[520, 4] = 254, 255, 255
    rgb[530, :2] = 9, 8, 7
    with pytest.raises(
        LabelError,
        match=r"a\.png has 3 pixels of unknown colours, the first \(254, 255, 255\) in "
        r"row 520, column 4; expected \(255, 255, 255\), \(0, 0, 255\), .*published",
    ):
        colors_to_index(rgb, COLORS, "a.png")


def test_images_without_labels_are_counted():
    refuse_unlabelled([], 3, "x")
    with pytest.raises(
        LabelError,
        match=r"4 of 9 images have no label \(first: a, b, c\); expected x; add the labels or",
    ):
        refuse_unlabelled(["a", "b", "c", "d"], 9, "x")
