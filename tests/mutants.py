"""Hostile files: sound ones of every format that is read, damaged in many ways by a seed.

A mutant is a folder that one of the image sets reads, with one file of it damaged. The same number
gives the same bytes.
"""

from __future__ import annotations

import re
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from alps.images.coco import Coco
from alps.images.dior import Dior
from alps.images.dota import Dota
from alps.images.fair1m import Fair1m
from alps.images.folder import Folder
from alps.images.hrsc2016 import Hrsc2016
from alps.images.labels import read_labels
from alps.images.table import Table
from alps.images.video import VideoBoxes
from alps.images.voc import Voc
from alps.types import ImageSet
from tests import box_formats, factories, videos

Read = Callable[[Path], object]
Random = np.random.Generator

#: Written over numbers in text.
NUMBERS = (
    *(b"-1", b"0", b"1e400", b"-1e308", b"1e39", b"NaN", b"Infinity", b"-inf", b"99999999999999"),
    *(b"4294967296", b"0x10", b"1_0", b"", b"true", b"null", b'"7"', b"[]", b"{}", b"9" * 5000),
    *(b"\xd9\xa3", b"1.5", b"1,5"),
)
#: Written over names and words in text.
WORDS = (
    *(b"", b"../../x", b"/etc/passwd", b"a\\u0000b", b"\0", b"\n", b"\xff\xfe", b"%s%n", b"CON"),
    *(b"&lt;", b"&nosuch;", b"<!--", b"]]>", b'"', b"\\", b"x" * 100_000, b"\xf0\x9f\x9b\xb0"),
    *(b"null", b"[[[[", b"{}", b"<object>", b"</object>"),
)
#: Written over bytes that may be a length or a size.
LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 100_000)


@dataclass(frozen=True, slots=True)
class Format:
    """How a sound dataset is written, which file of it is damaged, and what reads it."""

    write: Callable[[Path], None]
    file: str  # a pattern; one file must match
    read: Read
    text: bool


def read_all(images: ImageSet) -> None:
    """List and read everything, with the true masks where there are any."""
    for record in images.records():
        sample = images.read(record)
        if isinstance(images, Coco):
            assert sample.boxes is not None
            images.read_instances(record, sample.boxes, sample.size)


def _image(name: str, save: Callable[[Path, np.ndarray], object]) -> Format:
    def write(root: Path) -> None:
        root.mkdir(parents=True)
        save(root / name, factories.draw_scene((40, 56), seed=len(name))[0])

    return Format(write, name, lambda root: read_all(Folder(str(root), "x")), text=False)


def _pil(name: str, mode: str = "RGB", **options: object) -> Format:
    return _image(name, lambda path, a: Image.fromarray(a).convert(mode).save(path, **options))


def _tiff(name: str, **options: object) -> Format:
    return _image(name, lambda path, a: tifffile.imwrite(path, a, photometric="rgb", **options))


def _boxes(write: Callable[[Path], object], file: str, read: Read) -> Format:
    return Format(write, file, read, text=True)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


#: By name. SAMRS's pickles belong here, too, once there is a reader of them.
FORMATS: Mapping[str, Format] = {
    "PNG, 8 bits": _pil("a.png"),
    "PNG, palette": _pil("palette.png", "P"),
    "PNG, 16 bits": _image(
        "deep.png", lambda path, a: factories.create_image(path, (40, 56), dtype=np.uint16)
    ),
    "JPEG": _pil("a.jpg", exif=_exif()),
    "JPEG, progressive": _pil("progressive.jpg", progressive=True),
    "TIFF": _tiff("a.tif"),
    "TIFF, tiles, deflate": _tiff("tiles.tif", compression="zlib", tile=(16, 16)),
    "TIFF, 16 bits, BigTIFF": _image(
        "big.tif",
        lambda path, a: tifffile.imwrite(
            path, a.astype(np.uint16) * 9, photometric="rgb", bigtiff=True, rowsperstrip=8
        ),
    ),
    "TIFF, LZW": _pil("lzw.tif", compression="tiff_lzw"),
    "WebP": _pil("a.webp"),
    "WebP, lossless": _pil("lossless.webp", lossless=True),
    "BMP": _pil("a.bmp"),
    "index PNG": Format(
        lambda root: factories.create_folder_pair(root, 1, (40, 56), splits=("train",)),
        "ann_dir/train/0.png",
        lambda root: read_labels(root / "ann_dir/train/0.png"),
        text=False,
    ),
    "labelTxt of DOTA": _boxes(
        lambda root: box_formats.create_dota(root, ["train/P0000"], (40, 56)),
        "train/labelTxt-v2.0/*.txt",
        lambda root: read_all(Dota(root=str(root))),
    ),
    "XML of VOC": _boxes(
        lambda root: box_formats.create_voc(root, 1, (40, 56)),
        "Annotations/*.xml",
        lambda root: read_all(Voc(root=str(root))),
    ),
    "XML of DIOR": _boxes(
        lambda root: box_formats.create_dior(root, (40, 56)),
        "Annotations/Oriented Bounding Boxes/00001.xml",
        lambda root: read_all(Dior(root=str(root))),
    ),
    "XML of FAIR1M": _boxes(
        lambda root: box_formats.create_fair1m(root, (40, 56)),
        "validation/labelXml/*.xml",
        lambda root: read_all(Fair1m(root=str(root))),
    ),
    "XML of HRSC2016": _boxes(
        lambda root: box_formats.create_hrsc2016(root, (40, 56)),
        "Test/Annotations/*.xml",
        lambda root: read_all(Hrsc2016(root=str(root))),
    ),
    "JSON of COCO": _boxes(
        lambda root: box_formats.create_coco(root, 1, (40, 56)),
        "instances.json",
        lambda root: read_all(Coco(root=str(root))),
    ),
    "XML of ICDAR videos": _boxes(
        lambda root: _create_video(root, videos.write_icdar, "a_GT.xml"),
        "a_GT.xml",
        lambda root: read_all(VideoBoxes(root=str(root), annotations="*_GT.xml")),
    ),
    "JSON of BOVText": _boxes(
        lambda root: _create_video(root, videos.write_bovtext, "a.json"),
        "a.json",
        lambda root: read_all(VideoBoxes(root=str(root), annotations="*.json")),
    ),
    "CSV": _boxes(
        lambda root: _create_table(root), "boxes.csv", lambda root: read_all(Table(root=str(root)))
    ),
}


def _create_table(root: Path) -> None:
    factories.create_image(root / "images/a.png", (40, 56))
    rows = ["image,x0,y0,x1,y1,category", "a.png,2,3,20,30,tree", "a,10,3.5,24,30,car"]
    (root / "boxes.csv").write_text("\n".join(rows))


def _create_video(root: Path, write: Callable[[Path, np.ndarray], None], name: str) -> None:
    """Two frames in a folder, and their words."""
    video = videos.draw_video(2, (40, 56))
    videos.write_frames(root / "a", video.frames)
    write(root / name, video.quads)


class Mutants:
    """Makes them, below a folder of its own.

    Args:
        folder: where sound datasets are kept, and the mutant of the moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: dict[str, tuple[Path, str]] = {}

    def make(self, name: str, number: int) -> Path:
        """A dataset of the format ``name`` with one damaged file; valid until the next call."""
        chosen = FORMATS[name]
        if name not in self._sound:
            root = self.folder / f"sound_{len(self._sound)}"
            chosen.write(root)
            (file,) = root.glob(chosen.file)
            self._sound[name] = root, file.relative_to(root).as_posix()
        sound, file = self._sound[name]
        rng = np.random.default_rng([number, zlib.crc32(name.encode())])
        root = self.folder / "mutant"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(sound, root)
        data = (root / file).read_bytes()
        kinds = TEXT if chosen.text else BINARY
        for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
            data = kinds[rng.integers(len(kinds))](data, rng)
        (root / file).write_bytes(data)
        return root


def flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, max(len(data), 1), int(rng.integers(1, 9))):
        if len(changed):
            changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(0, len(data) + 1))]


def insert(data: bytes, rng: Random) -> bytes:
    place = int(rng.integers(0, len(data) + 1))
    return data[:place] + rng.bytes(int(rng.integers(1, 64))) + data[place:]


def remove(data: bytes, rng: Random) -> bytes:
    place = int(rng.integers(0, len(data) + 1))
    return data[:place] + data[place + int(rng.integers(1, 64)) :]


def repeat(data: bytes, rng: Random) -> bytes:
    a, b = sorted(int(x) for x in rng.integers(0, len(data) + 1, 2))
    return data[:b] + data[a:b] * int(rng.integers(1, 20)) + data[b:]


def blank(data: bytes, rng: Random) -> bytes:
    a, b = sorted(int(x) for x in rng.integers(0, len(data) + 1, 2))
    return data[:a] + bytes([int(rng.choice([0, 255]))]) * (b - a) + data[b:]


def overwrite(data: bytes, rng: Random, limit: int | None = None) -> bytes:
    """A number of 1, 2, 4 or 8 bytes somewhere becomes one of `LENGTHS`."""
    form = str(rng.choice(["<B", "<H", ">H", "<I", ">I", "<Q"]))
    size = struct.calcsize(form)
    place = int(rng.integers(0, max(1, min(len(data), limit or len(data)) - size)))
    value = int(rng.choice(LENGTHS)) & (256**size - 1)
    return data[:place] + struct.pack(form, value) + data[place + size :]


def header(data: bytes, rng: Random) -> bytes:
    return overwrite(data, rng, 64)


def chunk(data: bytes, rng: Random) -> bytes:
    """Of a PNG: a chunk is damaged and its checksum set right, else it would be passed over."""
    if not data.startswith(b"\x89PNG"):
        return tag(data, rng)
    starts, place = [], 8
    while place + 12 <= len(data):
        starts.append(place)
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    if not starts:
        return data
    start = starts[int(rng.integers(len(starts)))]
    length = int.from_bytes(data[start : start + 4], "big")
    body = overwrite(data[start + 4 : start + 8 + length], rng)
    return (
        data[: start + 4] + body + struct.pack(">I", zlib.crc32(body)) + data[start + 12 + length :]
    )


def tag(data: bytes, rng: Random) -> bytes:
    """Of a little-endian TIFF: the kind, count or value of a tag; of others: bytes at the front."""
    if data[:2] != b"II" or len(data) < 16:
        return overwrite(data, rng, 400)
    big = data[2:4] == b"+\0"
    place = int.from_bytes(data[8:16] if big else data[4:8], "little")
    width, first = (20, 8) if big else (12, 2)
    n = int.from_bytes(data[place : place + first], "little")
    start = place + first + width * int(rng.integers(0, min(n, 40) or 1))
    field, size = ((0, 2), (2, 2), (4, width // 2 - 2), (width // 2 + 2, width // 2 - 2))[
        rng.integers(4)
    ]
    value = int(rng.choice(LENGTHS)) & (256**size - 1)
    return data[: start + field] + value.to_bytes(size, "little") + data[start + field + size :]


def number(data: bytes, rng: Random) -> bytes:
    return _replace(rb"-?\d+(\.\d+)?", NUMBERS, data, rng)


def word(data: bytes, rng: Random) -> bytes:
    return _replace(rb"[A-Za-z_][\w.-]+", WORDS, data, rng)


def swap(data: bytes, rng: Random) -> bytes:
    """A word or number becomes another of the file."""
    tokens = re.findall(rb"[\w.-]+", data)
    return _replace(rb"[\w.-]+", tokens, data, rng) if tokens else data


def nest(data: bytes, rng: Random) -> bytes:
    """A thousand to a hundred thousand brackets or elements, closed or not."""
    opening, closing = [(b"[", b"]"), (b'{"a":', b"}"), (b"<object>", b"</object>")][
        rng.integers(3)
    ]
    n = int(10 ** rng.uniform(3, 5))
    place = int(rng.integers(0, len(data) + 1))
    inside = opening * n + (b"1" + closing * n if rng.random() < 0.5 else b"")
    return data[:place] + inside + data[place:]


def entities(data: bytes, rng: Random) -> bytes:
    """Entities that grow without bounds, or name a file."""
    lines = [b'<!ENTITY a0 "ha">']
    lines += [b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 12)]
    lines += [b'<!ENTITY f SYSTEM "file:///etc/passwd">']
    inside = b"<!DOCTYPE annotation [%s]>" % b"".join(lines)
    name = rb"&a11;" if rng.random() < 0.5 else rb"&f;"
    return inside + _replace(rb"[A-Za-z_][\w.-]+", (name,), data, rng)


def _replace(
    pattern: bytes, values: tuple[bytes, ...] | list[bytes], data: bytes, rng: Random
) -> bytes:
    found = list(re.finditer(pattern, data))
    if not found:
        return data
    match = found[int(rng.integers(len(found)))]
    return data[: match.start()] + values[int(rng.integers(len(values)))] + data[match.end() :]


_SHARED = (flip, cut, insert, remove, repeat, blank)
BINARY = (*_SHARED, overwrite, header, header, chunk, chunk)
TEXT = (*_SHARED, number, number, number, word, word, swap, swap, nest, entities)
