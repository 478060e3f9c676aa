"""The result of a reader: an 8-bit image and its valid mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from alps.structures.georeference import Georeference


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """An image and its valid mask.

    Args:
        image: RGB.
        valid: True for pixels with data; None: all pixels have data.
        bands: the bands that networks see, as stored; None: the image.
        georeference: georeference of the whole file; None: unknown.
    """

    image: UInt8[np.ndarray, "H W 3"]
    valid: Bool[np.ndarray, "H W"] | None = None
    bands: Shaped[np.ndarray, "C H W"] | None = None
    georeference: Georeference | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), px."""
        return self.image.shape[0], self.image.shape[1]


def blank_invalid(pixels: Pixels) -> Pixels:
    """Set invalid pixels to 0, in place, so that no result depends on their values."""
    if pixels.valid is not None and pixels.image.any():
        # Indexing with ~valid takes a hundred times as long, broadcasting twenty times.
        valid = interleave([pixels.valid.view(np.uint8)] * 3)
        np.multiply(pixels.image, valid, out=pixels.image)
    return pixels


def interleave(bands: Sequence[UInt8[np.ndarray, "H W"]]) -> UInt8[np.ndarray, "H W 3"]:
    """Return three bands as an image; GDAL and NumPy take ten times as long for this."""
    image: np.ndarray = cv2.merge([*bands])
    return image


def none_if_all(valid: Bool[np.ndarray, "H W"] | None) -> Bool[np.ndarray, "H W"] | None:
    """Return the mask, or None if it is True everywhere."""
    return None if valid is None or valid.all() else valid
