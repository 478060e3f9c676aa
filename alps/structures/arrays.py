"""Validation of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_array(name: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless ``array`` is an array of the expected type and shape.

    Args:
        name: name of the array in the message.
        array: the value to check.
        dtype: expected type.
        shape: expected shape.

    Raises:
        ValueError: ``array`` is no array, or has another type or shape.

    >>> check_array("Masks.area", np.zeros(3), np.int64, (3,))
    Traceback (most recent call last):
    ...
    ValueError: Masks.area is float64 of shape (3,), expected int64 of shape (3,)
    """
    if not isinstance(array, np.ndarray):
        came = type(array).__name__
    elif array.dtype == dtype and array.shape == shape:
        return
    else:
        came = f"{array.dtype} of shape {array.shape}"
    raise ValueError(f"{name} is {came}, expected {np.dtype(dtype)} of shape {shape}")
