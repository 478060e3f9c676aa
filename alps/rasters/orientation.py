"""The EXIF orientation of an image, which GDAL does not apply to a TIFF."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

#: The tag, in TIFF and EXIF.
ORIENTATION = 0x0112
#: Maximum number of directory entries to read; a usual TIFF has about 20.
MAX_ENTRIES = 4096


def tiff_orientation(path: Path) -> int:
    """Return the orientation (1 to 8) of the first image of a TIFF; 1 if it is not declared."""
    with path.open("rb") as file:
        head = file.read(16)
        byte_order = "<" if head[:2] == b"II" else ">"
        is_bigtiff = head[2:4] in (b"+\0", b"\0+")
        (directory,) = struct.unpack_from(
            f"{byte_order}{'Q' if is_bigtiff else 'I'}", head, 8 if is_bigtiff else 4
        )
        file.seek(directory)
        count_form, entry = (f"{byte_order}Q", 20) if is_bigtiff else (f"{byte_order}H", 12)
        (n,) = struct.unpack(count_form, file.read(struct.calcsize(count_form)))
        entries = file.read(entry * min(n, MAX_ENTRIES))
    for offset in range(0, len(entries) - entry + 1, entry):
        tag, kind = struct.unpack_from(f"{byte_order}HH", entries, offset)
        if (tag, kind) == (ORIENTATION, 3):
            (value,) = struct.unpack_from(
                f"{byte_order}H", entries, offset + (12 if is_bigtiff else 8)
            )
            return int(value) if 1 <= value <= 8 else 1
    return 1


def upright(image: Shaped[np.ndarray, "H W *C"], orientation: int) -> Shaped[np.ndarray, "_ _ *C"]:
    """Undo an EXIF orientation (1 to 8) by a transposition and flips."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
