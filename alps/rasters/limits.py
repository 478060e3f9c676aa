"""Limits of the decoded size of an image, absolute and relative to its file."""

from __future__ import annotations

from pathlib import Path

#: Maximum number of pixels of an image that is decoded: 32,768 × 32,768.
MAX_PIXELS = 2**30
#: Maximum bytes of a decoded image: `MAX_PIXELS` with four bands of 8 bits.
MAX_BYTES = 2**32
#: An image that decodes to more than LARGE bytes must not decode to more than MAX_RATIO bytes per
#: byte of its file. Deflate compresses up to 1,032 : 1 and LZW up to 2,560 : 1, and one gray byte
#: becomes three RGB bytes, so a smaller file is damaged or made to exhaust the memory. Up to LARGE
#: (8192 × 8192 RGB with 8 bits) any file size is accepted: zstd, fax and lossless WebP compress
#: images of one colour without limit, and a TIFF may omit its strips.
LARGE, MAX_RATIO = 3 * 2**26, 4096
#: Suffix of virtual rasters.
VRT_SUFFIX = ".vrt"


def check_size(path: Path | str, height: int, width: int, pixel: int) -> None:
    """Raise `ValueError` if a decoded image is too large, absolutely or relative to its file.

    Args:
        path: the file, or a URI, for which only the absolute limits apply.
        height: height of the image, px.
        width: width of the image, px.
        pixel: bytes of one decoded pixel, all bands.

    Raises:
        ValueError: the image has too many pixels or bytes.
    """
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"{height} x {width} pixels, the limit is {MAX_PIXELS}; cut the image into tiles"
        )
    if height * width * pixel > MAX_BYTES:
        raise ValueError(
            f"{height} x {width} pixels of {pixel} bytes, the limit is {MAX_BYTES} bytes; cut "
            "the image into tiles"
        )
    size = _file_bytes(path)
    if size is not None and height * width * pixel > max(LARGE, size * MAX_RATIO):
        raise ValueError(
            f"{height} x {width} pixels of {pixel} bytes in a file of {size} bytes: damaged, "
            "or made to exhaust the memory; download the file again, or write it uncompressed"
        )


def check_block(path: Path | str, height: int, width: int, pixel: int) -> None:
    """Raise `ValueError` if one block, the unit of decoding, is too large relative to its file.

    Args:
        path: the file, or a URI, whose blocks are not limited.
        height: height of a tile or strip, px.
        width: width of a tile or strip, px.
        pixel: bytes of one decoded pixel, all bands.

    Raises:
        ValueError: a block has too many bytes.
    """
    size = _file_bytes(path)
    if size is not None and height * width * pixel > max(LARGE, size * MAX_RATIO):
        raise ValueError(
            f"blocks of {height} x {width} pixels of {pixel} bytes in a file of {size} bytes: "
            "damaged, or made to exhaust the memory; download the file again"
        )


def _file_bytes(path: Path | str) -> int | None:
    """Return the size of a file; None for URIs and VRTs, whose data are elsewhere."""
    if isinstance(path, str) or path.suffix.lower() == VRT_SUFFIX:
        return None
    return path.stat().st_size
