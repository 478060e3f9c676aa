"""Validation of numbers in the configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from alps.errors import ConfigError


def is_number(value: Any, interval: str, *, whole: bool = False) -> bool:
    """Return whether a value is a number in an interval; booleans are not numbers.

    Args:
        value: any value.
        interval: ``[0, 1)`` includes 0 and excludes 1; ``[1, inf)`` has no upper bound.
        whole: accept integers only.

    >>> is_number(1, "[0, 1]"), is_number(1, "[0, 1)"), is_number(None, "[0, 1]")
    (True, False, False)
    """
    if not isinstance(value, int if whole else int | float) or isinstance(value, bool):
        return False
    low, high = _ends(interval)
    return (
        (low < value < high)
        or (value == low and "[" in interval)
        or (value == high and "]" in interval)
    )


def check_number(
    key: str,
    value: Any,
    interval: str,
    what: str = "",
    *,
    whole: bool = False,
    optional: bool = False,
) -> None:
    """Raise `ConfigError` unless a setting is a number in an interval.

    Args:
        key: name of the setting: ``optim.lr``.
        value: its value.
        interval: ``[0, 1)`` includes 0 and excludes 1; ``[1, inf)`` has no upper bound.
        what: description of the number for the message; empty: "a number".
        whole: accept integers only.
        optional: accept None as well.

    Raises:
        ConfigError: the value is not such a number.
    """
    if (value is None and optional) or is_number(value, interval, whole=whole):
        return
    what = what or ("a whole number" if whole else "a number")
    low, high = _ends(interval)
    where = f"in {interval}"
    if math.isinf(high):
        where = f"from {low:g} on" if "[" in interval else f"above {low:g}"
    raise ConfigError(f"{_said(key, value)}: expected {'null or ' * optional}{what} {where}")


def check_numbers(
    key: str, values: Any, interval: str, what: str, *, optional: bool = False
) -> None:
    """Raise `ConfigError` unless a setting is a non-empty list of numbers in an interval.

    Args:
        key: name of the setting.
        values: its value.
        interval: ``[0, 1)`` includes 0 and excludes 1; ``[1, inf)`` has no upper bound.
        what: description of the list for the message.
        optional: accept None as well.

    Raises:
        ConfigError: the value is not such a list.
    """
    if values is None and optional:
        return
    listed = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not (listed and all(is_number(value, interval) for value in values)):
        raise ConfigError(f"{_said(key, values)}: expected {'null or ' * optional}{what}")


def check_tiles(size: int, overlap: int, key: str = "tile.overlap") -> None:
    """Raise `ConfigError` unless the settings of tiles are valid.

    Args:
        size: side of a tile, px.
        overlap: overlap of neighbouring tiles, px.
        key: name of the setting of the overlap, for the message.

    Raises:
        ConfigError: the size is below 1, or the overlap is negative or not below the size.
    """
    check_number("tile.size", size, "[1, inf)", "whole pixels", whole=True)
    check_number(key, overlap, f"[0, {size})", "whole pixels, fewer than tile.size,", whole=True)


def _ends(interval: str) -> tuple[float, float]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high)


def _said(key: str, value: Any) -> str:
    """Return a setting as it is written on the command line."""
    return f"{key}={'null' if value is None else value}"
