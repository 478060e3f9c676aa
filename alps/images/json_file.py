"""Annotation files that are JSON, of unknown origin."""

from __future__ import annotations

import json
from typing import Any


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
