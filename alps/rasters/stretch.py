"""Conversion of pixels of any depth to 8 bits."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

#: Percentiles that become 0 and 255 in images of more than 8 bits.
STRETCH = (0.5, 99.5)


def stretch(
    image: Shaped[np.ndarray, "H W C"], valid: Bool[np.ndarray, "H W"] | None = None
) -> UInt8[np.ndarray, "H W C"]:
    """Map an image of any depth to 8 bits, linearly between two percentiles of its own values.

    The range of the data type cannot be used: sensors deliver 11 or 12 bits in 16, reflectances
    reach about 10,000, and floats have any unit. The maximum cannot be used because of glint in a
    few pixels. The percentiles `STRETCH` are taken over all bands together, which keeps the ratios
    between bands and so the colours. The result depends only on the image.

    Args:
        image: the bands, (H, W, C).
        valid: True for pixels with data; invalid pixels become 0 and are excluded from the
            percentiles. None: pixels that are finite in every band are valid.

    Returns:
        The 8-bit image.
    """
    bands = image.transpose(2, 0, 1)
    if valid is None:
        valid = finite_pixels(bands)
    low, high = stretch_limits(stretch_values(bands, valid))
    # Contiguous bands are ten times faster than H W C.
    numbers = np.array(bands, np.promote_types(image.dtype, np.float32), order="C")
    return stretch_between(numbers, valid, low, high).transpose(1, 2, 0)


def finite_pixels(bands: Shaped[np.ndarray, "C H W"]) -> Bool[np.ndarray, "H W"]:
    """Return a mask of the pixels that are finite in every band."""
    if bands.dtype.kind != "f":
        return np.ones(bands.shape[1:], bool)
    mask: Bool[np.ndarray, "H W"] = np.isfinite(bands).all(axis=0)
    return mask


def stretch_values(
    bands: Shaped[np.ndarray, "C H W"],
    valid: Bool[np.ndarray, "H W"],
    *,
    zero_counts: bool = False,
) -> Shaped[np.ndarray, "C N"]:
    """Return the values from which `stretch_limits` computes percentiles.

    Images of more than 8 bits often have a border of zeros without a no-data value, which must not
    change the stretch. So pixels that are 0 in all bands are excluded here, but remain valid.

    Args:
        bands: the values, (C, H, W).
        valid: True for pixels with data.
        zero_counts: include pixels that are 0 in all bands; set it if a no-data value is declared.

    Returns:
        The values of the included pixels, by band.
    """
    if not zero_counts:
        not_zero = bands[0] != 0
        for band in bands[1:]:
            not_zero |= band != 0
        valid = valid & not_zero
    if valid.all():  # much faster
        return bands.reshape(len(bands), -1)
    values: Shaped[np.ndarray, "C N"] = bands[:, valid]
    return values


def stretch_limits(values: Shaped[np.ndarray, ...]) -> tuple[float, float]:
    """Compute the limits of the stretch from valid values.

    Returns:
        The values that become 0 and 255: the percentiles `STRETCH`, or minimum and maximum if the
        percentiles are equal.
    """
    if not values.size:
        return 0.0, 0.0
    values = values.astype(np.promote_types(values.dtype, np.float32), copy=False)
    low, high = np.percentile(values, STRETCH)
    if low == high:  # nearly all values are equal, such as dark water with a few ships
        low, high = values.min(), values.max()
    return float(low), float(high)


def stretch_between(
    bands: Float[np.ndarray, "C H W"], valid: Bool[np.ndarray, "H W"], low: float, high: float
) -> UInt8[np.ndarray, "C H W"]:
    """Map ``low`` to 0 and ``high`` to 255.

    Args:
        bands: the values, (C, H, W); overwritten.
        valid: True for pixels with data; invalid pixels become 0.
        low: value that becomes 0.
        high: value that becomes 255.

    Returns:
        The 8-bit bands.
    """
    if low == high:
        return np.zeros(bands.shape, np.uint8)
    number = bands.dtype.type
    bands[:, ~valid] = low
    bands -= number(low)
    bands /= number(high - low)
    bands *= 255
    result: np.ndarray = np.rint(bands.clip(0, 255, out=bands), out=bands).astype(np.uint8)
    return result
