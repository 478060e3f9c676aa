"""Every way in which GDAL encodes a TIFF: read by ALPS and by tifffile with imagecodecs.

`make test-matrix` asserts each of them; ``python -m benchmarks.encodings`` counts them.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

from alps.errors import ImageError
from alps.images.files.read import read_pixels
from alps.rasters.pixels import Pixels
from alps.rasters.raster import Raster
from alps.rasters.stretch import stretch_between, stretch_limits

SIZE = (40, 72)
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float32", "float64")
COMPLEX = ("complex_int16", "complex64", "complex128")
#: No data in the first rows, and colours of a palette.
BORDER = 8
READS = 3


@dataclass(frozen=True, slots=True)
class Encoding:
    """A file to write.

    Args:
        dtype: of GDAL.
        bands: how many.
        options: of `rasterio.open`.
        trait: alpha, mask, nodata, nan, palette, sparse or none.
        refused: what the line must say, where it cannot be read.
    """

    dtype: str
    bands: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    trait: str = ""
    refused: str = ""

    def __str__(self) -> str:
        options = "-".join(f"{key}={value}" for key, value in self.options.items())
        return "-".join(filter(None, (self.dtype, str(self.bands), self.trait, options)))


def list_encodings() -> Iterator[Encoding]:
    layouts = [
        {"interleave": interleave, **tiles}
        for interleave in ("pixel", "band")
        for tiles in ({}, {"tiled": True, "blockxsize": 32, "blockysize": 16})
    ]
    plain: list[dict[str, Any]] = [{}]
    plain += [{"compress": name} for name in ("lzw", "deflate", "zstd", "packbits", "lzma")]
    for dtype, codec, layout in product((*INTEGERS, *FLOATS), plain, layouts):
        yield Encoding(dtype, 3, codec | layout)
    for dtype, codec, layout in product(
        ("uint8", "int16", "uint16", "uint32", "float32", "float64"),
        ("lzw", "deflate", "zstd"),
        layouts,
    ):
        predictor = 3 if dtype in FLOATS else 2
        yield Encoding(dtype, 3, {"compress": codec, "predictor": predictor} | layout)
    for dtype, order, big in product(("uint8", "uint16", "float32"), ("BIG", "LITTLE"), (1, 0)):
        big_tiff = "YES" if big else "NO"
        for codec in ({}, {"compress": "lzw", "predictor": 3 if dtype in FLOATS else 2}):
            yield Encoding(dtype, 3, {"ENDIANNESS": order, "BIGTIFF": big_tiff} | codec)
    for codec, dtype in product(("lerc", "lerc_zstd", "lerc_deflate"), ("uint8", "int16", *FLOATS)):
        yield Encoding(dtype, 1, {"compress": codec, "MAX_Z_ERROR": 0})
    for bands, tiled in product((3, 4), (True, False)):
        options = {"compress": "webp", "WEBP_LOSSLESS": True, "interleave": "pixel"}
        tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32} if tiled else {}
        kind = {"photometric": "RGB"} if bands == 3 else {"photometric": "RGB", "alpha": "YES"}
        yield Encoding("uint8", bands, options | tiles | kind, "alpha" if bands == 4 else "")
    for photometric, bands in (("MINISBLACK", 1), ("RGB", 3), ("YCBCR", 3)):
        for quality in (75, 100):
            options = {"compress": "jpeg", "photometric": photometric, "JPEG_QUALITY": quality}
            yield Encoding("uint8", bands, options | {"interleave": "pixel"})
    for dtype, bands, photometric in product(("uint8", "uint16", "float32"), (1, 2, 3, 4), "MR"):
        if photometric == "M" or bands >= 3:
            kind = {"M": "MINISBLACK", "R": "RGB"}[photometric]
            yield Encoding(dtype, bands, {"photometric": kind, "alpha": "NO"})
    for dtype, bands, layout, codec in product(
        ("uint8", "uint16", "float32"), (2, 4), layouts[::2], ({}, {"compress": "lzw"})
    ):
        kind = {"photometric": "RGB" if bands == 4 else "MINISBLACK", "alpha": "YES"}
        yield Encoding(dtype, bands, kind | layout | codec, "alpha")
    for dtype, bands, codec in product(
        ("uint8", "uint16", "float32"), (1, 3), ({}, {"compress": "deflate"})
    ):
        yield Encoding(dtype, bands, codec, "mask")
    for dtype, value, bands in product((*INTEGERS[:6], *FLOATS), (0, 100), (1, 3)):
        yield Encoding(dtype, bands, {"nodata": value}, "nodata")
    for dtype, codec, bands in product(FLOATS, ({}, {"compress": "lzw"}), (1, 3)):
        yield Encoding(dtype, bands, codec, "nan")
        yield Encoding(dtype, bands, codec | {"nodata": np.nan}, "nan")
        yield Encoding(dtype, bands, codec | {"nodata": float(np.finfo(dtype).min)}, "nodata")
    for bits, codec in product((1, 2, 4, 8), ({}, {"compress": "lzw"})):
        few = {"nbits": bits} if bits < 8 else {}
        yield Encoding("uint8", 1, few | codec, "palette")
        for photometric in ("MINISBLACK", "MINISWHITE"):
            yield Encoding("uint8", 1, few | codec | {"photometric": photometric})
    for codec in ({}, {"compress": "lzw"}, {"compress": "deflate"}):
        yield Encoding("uint16", 1, codec | {"nbits": 12})
        yield Encoding("uint16", 3, codec | {"nbits": 12, "interleave": "band"})
        yield Encoding("uint16", 3, codec | {"nbits": 12, "interleave": "pixel"})
        yield Encoding("float32", 1, codec | {"nbits": 16})
        yield Encoding("uint16", 1, codec | {"photometric": "MINISWHITE"})
    for codec in ("CCITTRLE", "CCITTFAX3", "CCITTFAX4"):
        yield Encoding("uint8", 1, {"nbits": 1, "compress": codec})
    for dtype, codec in product(("uint8", "uint16", "float32"), ({}, {"compress": "lzw"})):
        tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True}
        yield Encoding(dtype, 3, tiles | codec, "sparse")
    for dtype, codec in product(
        ("uint8", "uint16", "int16", "float32"), ("none", "lzw", "deflate", "zstd")
    ):
        yield Encoding(dtype, 3, {"driver": "COG", "compress": codec})
    for dtype, codec in product(COMPLEX, ({}, {"compress": "lzw"})):
        yield Encoding(dtype, 1, codec, refused="gdal_calc.py -A in.tif")
    for dtype in ("uint8", "float32"):
        yield Encoding(dtype, 7, {"photometric": "MINISBLACK", "alpha": "NO"}, refused="-b 1 -b 2")
        yield Encoding(dtype, 3, {}, "pages", refused="gdal_merge.py -separate")
    yield Encoding("uint8", 3, {}, "jpegxl", refused="gdal_translate -co COMPRESS=DEFLATE")


def write(path: Path, encoding: Encoding) -> None:
    """A scene with shapes, in the range of its type; no data in the first rows."""
    rng = np.random.default_rng(0)
    if encoding.trait in ("pages", "jpegxl"):
        image = rng.integers(0, 255, (encoding.bands, *SIZE)).astype(encoding.dtype)
        if encoding.trait == "pages":
            tifffile.imwrite(path, image, photometric="minisblack")
        else:
            tifffile.imwrite(path, image.transpose(1, 2, 0), compression="jpegxl")
        return
    bits = int(encoding.options.get("nbits", 16))
    ramp = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1])) % 100
    values = np.stack([ramp + 20 * (i + 1) for i in range(encoding.bands)])
    values = values + rng.integers(0, 9, values.shape) * (
        encoding.options.get("compress") != "jpeg"
    )
    dtype = np.dtype({"complex_int16": "complex64"}.get(encoding.dtype, encoding.dtype))
    if dtype.kind in "iu" and dtype.itemsize > 1 and bits > 8:
        values = values * min(11, (1 << bits) // 256)
    if dtype == np.int8:
        values = values - 110
    if bits < 8:
        values = values % (1 << bits)
    bands = values.clip(0, 255).astype(dtype) if dtype == np.uint8 else values.astype(dtype)
    if encoding.trait == "sparse":
        bands[:, 16:] = 0
    elif encoding.trait == "alpha":
        bands[-1] = 255
        bands[-1, :BORDER] = 0
    elif encoding.trait == "nodata":
        bands[:, :BORDER] = encoding.options["nodata"]
    elif encoding.trait == "nan":
        bands[0, :BORDER] = np.nan
    shape = {"count": len(bands), "height": SIZE[0], "width": SIZE[1], "dtype": encoding.dtype}
    place = {"transform": rasterio.Affine(1, 0, 5, 0, -1, 5)}
    profile = {"driver": "GTiff"} | shape | place | dict(encoding.options)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        warnings.catch_warnings(),
        rasterio.open(path, "w", **profile) as file,
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file.write(bands)
        if encoding.trait == "palette":
            file.write_colormap(1, {i: palette(i) for i in range(1 << min(bits, 8))})
        if encoding.trait == "mask":
            file.write_mask(np.arange(SIZE[0])[:, None].repeat(SIZE[1], 1) >= BORDER)


def palette(index: int) -> tuple[int, int, int]:
    return (255 - index, index // 2, (index * 7) % 256)


def expected(path: Path, encoding: Encoding) -> tuple[np.ndarray, Pixels]:
    """What tifffile reads as (C, H, W), and what that looks like."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        raw = page.asarray()
        white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        mask = tiff.pages[1].asarray() if encoding.trait == "mask" else None
    if raw.ndim == 2:
        raw = raw[None]
    elif not separate:
        raw = raw.transpose(2, 0, 1)
    colors = raw[:3] if len(raw) >= 3 else raw[:1]
    valid = np.ones(SIZE, bool)
    if encoding.trait == "alpha":
        valid = raw[-1] > 0
    elif encoding.trait == "mask":
        valid = np.squeeze(mask) > 0
    elif encoding.trait == "nodata":
        valid = (raw != raw.dtype.type(encoding.options["nodata"])).any(axis=0)
    elif encoding.trait == "nan":
        valid = np.isfinite(raw).all(axis=0)
    bits = int(encoding.options.get("nbits", 8))
    if encoding.trait == "palette":
        table = np.array([palette(i) for i in range(1 << min(bits, 8))], np.uint8)
        image = table[colors[0].astype(np.uint8)]
    elif colors.dtype in (np.uint8, bool):
        image = colors.astype(np.uint8).transpose(1, 2, 0)
        image = image * (255 // ((1 << min(bits, 8)) - 1))
    else:
        declared = encoding.options.get("nodata") is not None
        counts = valid if declared else valid & (colors != 0).any(axis=0)
        values = colors.astype(np.promote_types(colors.dtype, np.float32))
        image = stretch_between(values, valid, *stretch_limits(values[:, counts]))
        image = image.transpose(1, 2, 0)
    if white_is_zero:
        image = np.where(valid[..., None], 255 - image, 0).astype(np.uint8)
    image = np.where(valid[..., None], np.broadcast_to(image, (*SIZE, 3)), 0).astype(np.uint8)
    return raw, Pixels(image, None if valid.all() else valid)


def check(encoding: Encoding, folder: Path) -> str:
    """Return equal, refused, or wrong and why."""
    path = folder / "a.tif"
    path.unlink(missing_ok=True)
    write(path, encoding)
    hashes = set()
    try:
        for _ in range(READS):
            pixels = read_pixels(path)
            valid = b"" if pixels.valid is None else pixels.valid.tobytes()
            hashes.add(hashlib.sha256(pixels.image.tobytes() + valid).hexdigest())
    except ImageError as error:
        if encoding.refused and encoding.refused in str(error) and "\n" not in str(error):
            return "refused"
        return f"wrong: {error}"
    if encoding.refused:
        return "wrong: it was read"
    raw, seen = expected(path, encoding)
    with Raster(path) as raster:
        numbers = raster.read_first_band()
    if len(hashes) > 1:
        return f"wrong: {len(hashes)} results of {READS} reads"
    if not np.array_equal(numbers, raw[0], equal_nan=numbers.dtype.kind == "f"):
        return f"wrong: other values than tifffile's, {numbers[:2, :4]} and {raw[0, :2, :4]}"
    if (pixels.valid is None) != (seen.valid is None):
        return "wrong: valid"
    if pixels.valid is not None and not np.array_equal(pixels.valid, seen.valid):
        return "wrong: other valid pixels"
    if not np.array_equal(pixels.image, seen.image):
        difference = np.abs(pixels.image.astype(int) - seen.image)
        return f"wrong: {np.count_nonzero(difference)} values, by up to {difference.max()}"
    return "equal"
