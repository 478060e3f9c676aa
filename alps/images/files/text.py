"""Parse JSON and numbers in untrusted files."""

from __future__ import annotations

import json
import re
from typing import Any

#: Largest id or frame index; both are stored in 31 bits.
MAX_ID = 2**31 - 1


def parse_integer(value: object) -> int | None:
    """Return the integer at the end of a value (7 for "7", "7.0", "frame_7"), or None."""
    digits = re.search(r"(?<![\d.-])0*(\d{1,10})(\.0*)?$", str(value).strip())
    number = int(digits[1]) if digits else MAX_ID + 1
    return number if number <= MAX_ID else None


def parse_json(text: str) -> Any:
    """Parse JSON; malformed text raises `ValueError` and no other exception.

    Like Python's `json`, it accepts NaN, Infinity and numbers of any size; callers check them.

    Returns:
        The parsed value.

    Raises:
        ValueError: the text is malformed.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_id(value: object) -> bool:
    """Return whether a value can be an id: an integer or a string."""
    return isinstance(value, int | str) and not isinstance(value, bool)
