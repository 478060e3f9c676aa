"""JSON and numbers in files of unknown origin."""

from __future__ import annotations

import json
import re
from typing import Any

#: Ids and frames are stored in 31 bits.
LARGEST = 2**31 - 1


def whole(word: object) -> int | None:
    """The number that a word is or ends with, as 7 for "7", "7.0" and "frame_7", else None."""
    digits = re.search(r"(?<![\d.-])0*(\d{1,10})(\.0*)?$", str(word).strip())
    number = int(digits[1]) if digits else LARGEST + 1
    return number if number <= LARGEST else None


def parse_json(text: str) -> Any:
    """What a file says; raises `ValueError`, and nothing else, where it is no JSON.

    Python reads NaN, Infinity and numbers of any size, too: whoever takes a number looks at it.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def is_id(value: object) -> bool:
    """Whether a value can be an id: a whole number, or a word."""
    return isinstance(value, int | str) and not isinstance(value, bool)
