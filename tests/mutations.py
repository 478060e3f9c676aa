"""Ways to damage the bytes of a file, each by a random generator."""

from __future__ import annotations

import gzip
import pickletools
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np

Random = np.random.Generator
Damage = Callable[[bytes, Random], bytes]

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
#: Of a NIfTI header, by its place: shape, kind, spacing, first byte, scale, codes, affine.
NIFTI_FIELDS = (
    *((40 + 2 * i, "<h") for i in range(8)),
    *((place, "<h") for place in (0, 70, 72, 252, 254, 344)),
    *((76 + 4 * i, "<f") for i in range(8)),
    *((place, "<f") for place in (108, 112, 116)),
    *((place, "<f") for place in range(256, 328, 4)),
)
FLOATS = (0.0, -1.0, 1e-38, 1e38, float("inf"), float("-inf"), float("nan"), 352.5, -352.0, 2**31)
#: What stands behind a word of a pickle, in bytes.
OPERANDS = {
    "PUT": 0,
    "GET": 0,
    "INT": 0,
    "LONG": 0,
    "BINPUT": 1,
    "BINGET": 1,
    "LONG_BINPUT": 4,
    "LONG_BINGET": 4,
    "FRAME": 8,
    "PROTO": 1,
    "BININT": 4,
    "BININT1": 1,
    "BININT2": 2,
    "LONG1": 1,
    "LONG4": 4,
    "SHORT_BINUNICODE": 1,
    "BINUNICODE": 4,
    "BINUNICODE8": 8,
    "SHORT_BINBYTES": 1,
    "BINBYTES": 4,
    "BINBYTES8": 8,
    "BYTEARRAY8": 8,
}
#: Words of pickles: stack, calls, counts that are lies, keys that take years to hash.
WORDS_OF_PICKLE = (
    *(b"0", b"1", b"2", b"(", b".", b"R", b"b", b"a", b"e", b"s", b"u", b"t", b"d", b"l", b"o"),
    *(b"\x81", b"\x85", b"\x86", b"\x92", b"\x93", b"\x94", b"]", b"}", b")", b"N", b"\x8f"),
    *(b"Q", b"\x82\x01", b"\x97", b"P7\n", b"\x80\xff", b"\x95" + b"\xff" * 8),
    *(b"T\xff\xff\xff\x7f", b"X\xff\xff\xff\xff", b"\x8b\xff\xff\xff\x7f"),
    *(b"\x96\xff\xff\xff\xff\2\0\0\0", b"\x8e" + b"\xff" * 7 + b"\x7f"),
    *(b"r\xff\xff\xff\x7f", b"p99999999999\n", b"h\xff", b"j\xff\xff\xff\xff", b"L" + b"9" * 9999),
    *(b"})" + b"2\x86" * 60 + b"K\1s", b"})" + b"\x85" * 100_000 + b"K\1s"),
    *(b"(" * 100_000, b"]" * 5000 + b"a" * 4999),
    b"]q\1" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(1, 60)),
)
#: `os._exit` ends the process that calls it, which is seen.
NAMES_IN_PICKLES = (
    *((b"os", b"_exit"), (b"os", b"abort"), (b"builtins", b"eval"), (b"numpy", b"ndarray")),
    *((b"numpy", b"dtype"), (b"numpy._core.multiarray", b"_reconstruct"), (b"", b"")),
    *((b"numpy._core.multiarray", b"scalar"), (b"numpy.core.numeric", b"_frombuffer")),
    *((b"_codecs", b"encode"), (b"builtins", b"bytes"), (b"builtins", b"getattr")),
)


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


def opcode(data: bytes, rng: Random) -> bytes:
    """Of a pickle: a word becomes another, is left out, comes twice, or another stands before."""
    start, stop, _ = _pick(data, rng)
    if rng.random() < 0.4:
        code = pickletools.opcodes[rng.integers(len(pickletools.opcodes))].code.encode("latin1")
        return data[:start] + code + data[start + 1 :]
    again = data[start:stop] * int(rng.choice([0, 2, 2000]))
    inside = WORDS_OF_PICKLE[rng.integers(len(WORDS_OF_PICKLE))] if rng.random() < 0.5 else again
    return data[:start] + inside + data[start if rng.random() < 0.5 else stop :]


def name(data: bytes, rng: Random) -> bytes:
    """Of a pickle: a name that is imported becomes another, of an allowed thing or not."""
    start, stop, op = _pick(data, rng, "GLOBAL", "STACK_GLOBAL", "EMPTY_LIST")
    module, thing = NAMES_IN_PICKLES[rng.integers(len(NAMES_IN_PICKLES))]
    word = b"c%s\n%s\n" % (module, thing)
    if rng.random() < 0.3:  # and is called, with nothing or a number
        word += b"".join(rng.choice([b")R", b"K\x07\x85R", b"}b", b")\x81", b"0"], 2).tolist())
    return data[:start] + word + data[start if op == "EMPTY_LIST" else stop :]


def operand(data: bytes, rng: Random) -> bytes:
    """Of a pickle: a place in the memo, the length of a frame, a count or a number is a lie."""
    start, stop, op = _pick(data, rng, *OPERANDS)
    if op in ("PUT", "GET", "INT", "LONG"):
        return data[: start + 1] + NUMBERS[rng.integers(len(NUMBERS))] + b"\n" + data[stop:]
    size = OPERANDS.get(op, 1)
    value = int(rng.choice([*LENGTHS, 2**63 - 1, 2**40])) & (256**size - 1)
    return data[: start + 1] + value.to_bytes(size, "little") + data[start + 1 + size :]


def bomb(data: bytes, rng: Random) -> bytes:
    """Of an image: one that is many times larger than its file."""
    side = int(rng.choice([2500, 8192, 16384]))
    return empty_tiff(side) if rng.random() < 0.5 else black_png(side)


def empty_tiff(side: int) -> bytes:
    """Of four bands of 64 bits, in one strip that is left out: 162 bytes for any side."""
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 4, 146), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 0), (277, 3, 1, 4), (278, 4, 1, side), (279, 4, 1, 0), (284, 3, 1, 1)]
    tags += [(339, 3, 4, 154)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    depth, kind = struct.pack("<4H", *[64] * 4), struct.pack("<4H", *[3] * 4)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + depth + kind


def black_png(side: int) -> bytes:
    """Of one bit, as deflate packs it best: a byte for 8,256 pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-side // 8))
    rows = b"".join(packer.compress(row * 256) for _ in range(side // 256))
    rows += packer.compress(row * (side % 256)) + packer.flush()
    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", size), (b"IDAT", rows), (b"IEND", b""))
    )


def attributes(data: bytes, rng: Random) -> bytes:
    """An attribute whose default goes into every element of a name."""
    size = int(10 ** rng.uniform(3, 5))
    declared = b"<!DOCTYPE annotation [<!ATTLIST x a CDATA '%s'>]>" % (b"y" * size)
    return declared + re.sub(rb"(</[A-Za-z_]+>)\s*$", rb"<x/>" * 20_000 + rb"\1", data)


def pickle_bomb(data: bytes, rng: Random) -> bytes:
    """Of a pickle: keys whose hashes are alike, lists by the million, marks high on the stack."""
    n = int(10 ** rng.uniform(4, 6.5))
    prime = 2**61 - 1  # Python's hash of a whole number is the rest by it
    keys = (b"\x8a\x0a" + (k * prime).to_bytes(10, "little") + b"N" for k in range(1, 1 + n // 100))
    inside = [
        b"}(" + b"".join(keys) + b"u",
        b"(" + b"]" * n + b"l",
        b"(" * 9 + b"N" * n + b"(1" * n,
    ]
    start, _, _ = _pick(data, rng)
    return data[:start] + inside[rng.integers(3)] + b"0" + data[start:]


def _pick(data: bytes, rng: Random, *names: str) -> tuple[int, int, str]:
    """Where one of the words of a pickle stands and ends, one of these if there is any."""
    found = []
    with suppress(Exception):  # what is damaged already is taken as far as it goes
        found += [(place, op.name) for op, _, place in pickletools.genops(data)]
    ends = [*(place for place, _ in found[1:]), len(data)]
    words = [(start, end, op) for (start, op), end in zip(found, ends, strict=False)]
    words = [word for word in words if word[2] in names] or words or [(0, len(data), "")]
    return words[rng.integers(len(words))]


def volume(data: bytes, rng: Random) -> bytes:
    """Of a NIfTI: a field of the header."""
    place, form = NIFTI_FIELDS[rng.integers(len(NIFTI_FIELDS))]
    if form == "<f":
        word = struct.pack(form, float(rng.choice(FLOATS)))
    else:
        word = struct.pack("<H", int(rng.choice(LENGTHS)) & 0xFFFF)
    return data[:place] + word + data[place + len(word) :]


def unzipped(kind: Damage) -> Damage:
    """What is inside a gzip is damaged, and packed again."""

    def change(data: bytes, rng: Random) -> bytes:
        try:
            inside = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return kind(data, rng)
        return gzip.compress(kind(inside, rng), mtime=0)

    return change


def _replace(
    pattern: bytes, values: tuple[bytes, ...] | list[bytes], data: bytes, rng: Random
) -> bytes:
    found = list(re.finditer(pattern, data))
    if not found:
        return data
    match = found[int(rng.integers(len(found)))]
    return data[: match.start()] + values[int(rng.integers(len(values)))] + data[match.end() :]


_SHARED = (flip, cut, insert, remove, repeat, blank)
BINARY = (*_SHARED, overwrite, header, header, chunk, chunk, bomb)
TEXT = (*_SHARED, number, number, number, word, word, swap, swap, nest, entities, attributes)
PICKLE = (*_SHARED, opcode, opcode, opcode, name, name, operand, operand, pickle_bomb)
NIFTI = (*_SHARED, overwrite, volume, volume, volume, volume)
GZIP = (*_SHARED, *(unzipped(kind) for kind in (flip, cut, repeat, volume, volume, volume)))
