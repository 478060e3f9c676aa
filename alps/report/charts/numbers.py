"""Format numbers for people to read."""

from __future__ import annotations

import math


def count(n: int) -> str:
    """Return an integer with thousands separators.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{n:,}"


def short(n: int) -> str:
    """Return a count in short form, with a unit prefix.

    >>> [short(n) for n in (0, 950, 1500, 20_000, 3_000_000)]
    ['0', '950', '1.5k', '20k', '3M']
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:g}{name}"
    return f"{n:g}"


def percent(fraction: float) -> str:
    """Return a fraction in 0..1 as a percentage: to a tenth, or two digits below 1%.

    >>> [percent(fraction) for fraction in (1.0, 0.98765, 0.0123, 0.0000312, 0.0)]
    ['100%', '98.8%', '1.2%', '0.0031%', '0%']
    """
    value = 100 * fraction
    digits = 1 if value >= 1 or value <= 0 else 1 - math.floor(math.log10(value))
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") + "%"


def table_percent(part: float) -> str:
    """Return a fraction as a percentage to a tenth, for table columns; a dash for NaN.

    >>> [table_percent(part) for part in (0.5, 0.98765, -0.002, float("nan"))]
    ['50.0%', '98.8%', '-0.2%', '-']
    """
    return "-" if math.isnan(part) else f"{100 * part:.1f}%"


def decimal(x: float) -> str:
    """Return a number with three significant digits; "unknown" if it is not finite.

    >>> decimal(0.51234), decimal(float("nan"))
    ('0.512', 'unknown')
    """
    return f"{x:.3g}" if math.isfinite(x) else "unknown"


def score(value: float) -> str:
    """Return an IoU or AP with three decimals; a dash for NaN.

    >>> score(0.87654), score(float("nan"))
    ('0.877', '-')
    """
    return "-" if math.isnan(value) else f"{value:.3f}"


def round_step(x: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50, … that is not below ``x``.

    >>> [round_step(x) for x in (0.0, 1.5, 3.0, 11.0)]
    [1, 2, 5, 20]
    """
    power = 10 ** max(math.floor(math.log10(x)), 0) if x > 1 else 1
    return next(n * power for n in (1, 2, 5, 10) if n * power >= x)


def css_color(color: tuple[int, int, int]) -> str:
    """Return an RGB colour in 0..255 as a CSS colour.

    >>> css_color((230, 69, 9))
    '#e64509'
    """
    return "#{:02x}{:02x}{:02x}".format(*color)
