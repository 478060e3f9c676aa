"""Validation of arrays and of indices."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Int, Int64

#: Selects rows: a number, a slice, a list or array of numbers, or a boolean per row.
RowIndex = SupportsIndex | slice | Sequence[int] | Bool[np.ndarray, " _"] | Int[np.ndarray, " _"]


def check_array(name: str, array: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless ``array`` is an array of the expected dtype and shape.

    Args:
        name: name of the array in the message.
        array: the value to check.
        dtype: expected dtype.
        shape: expected shape.

    Raises:
        ValueError: ``array`` is not an array, or has the wrong dtype or shape.

    >>> check_array("Masks.area", np.zeros(3), np.int64, (3,))
    Traceback (most recent call last):
    ...
    ValueError: Masks.area is float64 of shape (3,), expected int64 of shape (3,)
    """
    if not isinstance(array, np.ndarray):
        actual = type(array).__name__
    elif array.dtype == dtype and array.shape == shape:
        return
    else:
        actual = f"{array.dtype} of shape {array.shape}"
    raise ValueError(f"{name} is {actual}, expected {np.dtype(dtype)} of shape {shape}")


def select_rows(index: RowIndex, n: int, name: str) -> Int64[np.ndarray, " M"]:
    """Return the numbers of the rows that an index selects; a single number selects one row.

    Args:
        index: as in NumPy; negative numbers count from the end.
        n: number of rows.
        name: what the rows are, for messages.

    Raises:
        IndexError: a number is out of range, or there is not one boolean per row.

    >>> select_rows(-1, 3, "masks"), select_rows(slice(2), 3, "masks")
    (array([2]), array([0, 1]))
    """
    rows = np.arange(n)
    if isinstance(index, np.ndarray) and index.dtype == np.bool_ and index.shape != (n,):
        raise IndexError(
            f"a boolean array of shape {index.shape} selects from {n} {name}, expected one value "
            f"for each, shape ({n},)"
        )
    try:
        if isinstance(index, SupportsIndex) and not (isinstance(index, np.ndarray) and index.ndim):
            index = [operator.index(index)]
        selected: np.ndarray = rows[index]
        return selected
    except IndexError as error:
        raise IndexError(f"cannot select from {n} {name}: {error}") from None
