"""Numbers among the settings: a user may write anything, a class wants one of an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from alps.errors import ConfigError


def is_number(value: Any, interval: str, *, whole: bool = False) -> bool:
    """Whether a value is a number, no truth value, and lies in the interval.

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
    """Refuse a setting that is no number of an interval.

    Args:
        key: as it is set, ``optim.lr``.
        value: what it was set to.
        interval: ``[0, 1)`` holds 0 and not 1; ``[1, inf)`` has no upper end.
        what: the number, in words; empty: just that.
        whole: only integers.
        optional: None is fine, too.

    Raises:
        ConfigError: it is something else.
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
    """Refuse a setting that is no list of one or more numbers of an interval.

    Raises:
        ConfigError: it is something else.
    """
    if values is None and optional:
        return
    listed = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not (listed and all(is_number(value, interval) for value in values)):
        raise ConfigError(f"{_said(key, values)}: expected {'null or ' * optional}{what}")


def check_tiles(size: int, overlap: int, key: str = "tile.overlap") -> None:
    """Raise `ConfigError` where tiles cannot have this side, or share so much (``key``), in px."""
    check_number("tile.size", size, "[1, inf)", "whole pixels", whole=True)
    check_number(key, overlap, f"[0, {size})", "whole pixels, fewer than tile.size,", whole=True)


def _ends(interval: str) -> tuple[float, float]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high)


def _said(key: str, value: Any) -> str:
    """A setting as it is written on the command line."""
    return f"{key}={'null' if value is None else value}"
