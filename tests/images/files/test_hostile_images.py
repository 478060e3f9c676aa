"""Images made to exhaust the memory, or to name what is not theirs."""

import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from alps.errors import ImageError, LabelError
from alps.images.files.labels import read_labels
from alps.images.files.read import read_image
from alps.images.plain.folder import Folder
from tests import mutations
from tests.factories import create_image


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff(*tags):
    """Of (tag, type, count, value), and nothing behind them."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def jpeg(height, width):
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0" + b"\xff\xd9"


HUGE = [(256, 4, 1, 100_000), (257, 4, 1, 100_000), (258, 3, 1, 8), (262, 3, 1, 1)]
LAID_OUT = [(259, 3, 1, 1), (277, 3, 1, 1)]
IMAGES = {
    "a PNG of 100,000 x 100,000": (
        png((b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0)), (b"IDAT", b"")),
        "100000 x 100000 pixels, the limit is",
    ),
    "a TIFF of 100,000 x 100,000": (
        tiff(*HUGE, *LAID_OUT, (273, 4, 1, 8), (279, 4, 1, 8)),
        "100000 x 100000 pixels, the limit is",
    ),
    "a TIFF that says nothing but a large size": (
        tiff((256, 4, 1, 30_000), (257, 4, 1, 30_000), *HUGE[2:], *LAID_OUT, (273, 4, 1, 8)),
        "30000 x 30000 pixels of 3 bytes in a file of [0-9]+ bytes: damaged, or made to exhaust",
    ),
    "four billion strips": (
        tiff((256, 4, 1, 9), (257, 4, 1, 9), *HUGE[2:], *LAID_OUT, (273, 4, 2**32 - 1, 8)),
        "",
    ),
    "a directory that is its own successor": (
        tiff((256, 4, 1, 9), (257, 4, 1, 9), *HUGE[2:])[:-4] + struct.pack("<I", 8),
        "",
    ),
    "a JPEG of 65,535 x 65,535": (jpeg(65535, 65535), "65535 x 65535 pixels, the limit is"),
    "a JPEG of 30,000 x 30,000": (
        jpeg(30000, 30000),
        "30000 x 30000 pixels of 3 bytes in a file of [0-9]+ ",
    ),
    "text that unpacks to 100 MB": (
        png(
            (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
            (b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8), 9)),
            (b"IDAT", zlib.compress(b"\0\0")),
            (b"IEND", b""),
        ),
        "[Dd]ecompressed data too large",
    ),
    "a pickle": (pickle.dumps({"a": np.zeros(9)}), "cannot identify image file"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image_is_refused(name, tmp_path):
    content, message = IMAGES[name]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"cannot read .*a\.png: .*{message}") as caught:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_an_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.png", "w") as file:
        file.writestr("a.png", b"")
    with pytest.raises(ImageError, match="cannot identify image file"):
        read_image(tmp_path / "a.png")


def test_large_images_of_one_colour_are_accepted(tmp_path, monkeypatch):
    """Deflate and LZW at their best: ground without data in a large mosaic."""
    monkeypatch.setattr("alps.rasters.limits.LARGE", 1000)
    image = np.zeros((3000, 3000), np.uint8)
    for mode in ("L", "RGB"):
        Image.fromarray(image).convert(mode).save(tmp_path / f"{mode}.png", compress_level=9)
        Image.fromarray(image).convert(mode).save(tmp_path / f"{mode}.tif", compression="tiff_lzw")
    tifffile.imwrite(tmp_path / "a.tif", image, compression="zlib", rowsperstrip=3000)
    for path in tmp_path.iterdir():
        assert read_image(path).shape == (3000, 3000, 3)


@pytest.mark.parametrize("name", ["fax.tif", "1.png", "a.webp"])
def test_images_of_ordinary_size_may_be_compressed_without_limit(tmp_path, name):
    image = Image.fromarray(np.zeros((3000, 3000), np.uint8))
    if name == "fax.tif":
        image.convert("1").save(tmp_path / name, compression="group4")
    elif name == "1.png":
        image.convert("1").save(tmp_path / name, compress_level=9)
    else:
        image.convert("RGB").save(tmp_path / name, lossless=True)
    assert (tmp_path / name).stat().st_size < 3000 * 3000 / 4096
    assert read_image(tmp_path / name).shape == (3000, 3000, 3)


@pytest.mark.parametrize(
    ("bomb", "shown"),
    [
        (mutations.empty_tiff(8192), "8192 x 8192 pixels of 32 bytes in a file of 162 bytes"),
        (mutations.black_png(16384), "16384 x 16384 pixels of 3 bytes in a file of [0-9]+ bytes"),
    ],
)
def test_the_limit_counts_the_bytes_of_all_bands(tmp_path, bomb, shown):
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(ImageError, match=rf"cannot read .*a\.png: {shown}: damaged, or made"):
        read_image(tmp_path / "a.png")


def test_limits_apply_to_labels(tmp_path):
    (tmp_path / "a.png").write_bytes(mutations.black_png(16384))
    with pytest.raises(
        LabelError, match=r"16384 x 16384 pixels of 3 bytes in .* exhaust the memory"
    ):
        read_labels(tmp_path / "a.png")


def test_the_error_about_too_many_bytes_suggests_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr("alps.rasters.limits.MAX_BYTES", 20 * 30 * 6 - 1)
    for name, dtype in (("8.png", np.uint8), ("16.png", np.uint16), ("16.tif", np.uint16)):
        create_image(tmp_path / name, (20, 30), dtype=dtype)
    assert read_image(tmp_path / "8.png").shape == (20, 30, 3)
    for name in ("16.png", "16.tif"):
        with pytest.raises(ImageError, match="20 x 30 pixels of 6 bytes, the limit is 3599 bytes"):
            read_image(tmp_path / name)


def test_dangling_and_cyclic_links_are_skipped(tmp_path):
    create_image(tmp_path / "sub/a.png", (8, 8))
    (tmp_path / "sub/up").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nothing.png")
    assert [r.image_id for r in Folder(str(tmp_path), "x").records()] == ["sub/a"]


def test_a_name_with_a_line_break_is_skipped(tmp_path, caplog):
    create_image(tmp_path / "a.png", (8, 8))
    create_image(tmp_path / "b\nerror: c.png", (8, 8))
    assert [r.image_id for r in Folder(str(tmp_path), "x").records()] == ["a"]
    assert "1 of 2 images" in caplog.text
    assert r"b\nerror: c.png" in caplog.text
