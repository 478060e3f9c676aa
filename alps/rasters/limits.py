"""How large an image may be when it is decoded, as compared with its file."""

from __future__ import annotations

from pathlib import Path

#: An image with more pixels is refused before it is decoded: 32,768 × 32,768.
MAX_PIXELS = 2**30
#: And one that takes more bytes when it is decoded: as many pixels of four bands of 8 bits.
MAX_BYTES = 2**32
#: Of more bytes than this a file must have a byte for so many. Deflate packs 1,032 bytes into one
#: and LZW 2,560, and a gray one becomes three: a file with fewer is damaged, or made to fill the
#: memory. Up to there (8192 × 8192 with 8 bits) an image of one colour may come out of any few
#: bytes: zstd, fax and lossless WebP pack without bounds, and a TIFF may leave out its strips.
LARGE, PER_BYTE = 3 * 2**26, 4096


def check_size(path: Path, height: int, width: int, pixel: int) -> None:
    """Raise `ValueError` unless the memory for an image is in proportion to its file.

    Args:
        path: the file.
        height: of the image, px.
        width: of the image, px.
        pixel: bytes of one pixel, all bands, when it is decoded.
    """
    if height * width > MAX_PIXELS:
        raise ValueError(f"{height} x {width} pixels, the limit is {MAX_PIXELS}; cut it into tiles")
    if height * width * pixel > MAX_BYTES:
        raise ValueError(
            f"{height} x {width} pixels of {pixel} bytes, the limit is {MAX_BYTES} bytes; cut it "
            "into tiles"
        )
    size = path.stat().st_size
    if height * width * pixel > max(LARGE, size * PER_BYTE):
        raise ValueError(
            f"{height} x {width} pixels of {pixel} bytes in {size} bytes: damaged, or made to fill "
            "the memory; get it again, or write it without compression"
        )


def check_block(path: Path, height: int, width: int, pixel: int) -> None:
    """Raise `ValueError` for a block, which is decoded whole, that would fill the memory by itself.

    Args:
        path: the file.
        height: of a tile or strip, px.
        width: of it, px.
        pixel: bytes of one pixel, all bands, when it is decoded.
    """
    size = path.stat().st_size
    if height * width * pixel > max(LARGE, size * PER_BYTE):
        raise ValueError(
            f"blocks of {height} x {width} pixels of {pixel} bytes in {size} bytes: damaged, or "
            "made to fill the memory; get it again"
        )
