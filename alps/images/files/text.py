"""Parse JSON and numbers in untrusted files."""

from __future__ import annotations

import json
import re
from typing import Any

#: Largest id or frame index; both are stored in 31 bits.
LARGEST = 2**31 - 1


def whole(word: object) -> int | None:
    """Return the number that a value is or ends with (7 for "7", "7.0", "frame_7"), else None."""
    digits = re.search(r"(?<![\d.-])0*(\d{1,10})(\.0*)?$", str(word).strip())
    number = int(digits[1]) if digits else LARGEST + 1
    return number if number <= LARGEST else None


def parse_json(text: str) -> Any:
    """Parse JSON; raise `ValueError`, and nothing else, if it is malformed.

    As in Python's `json`, NaN, Infinity and numbers of any size are accepted: callers check
    numbers.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_id(value: object) -> bool:
    """Return whether a value can be an id: a whole number or a string."""
    return isinstance(value, int | str) and not isinstance(value, bool)
