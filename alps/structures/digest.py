"""Short digests of values, from which fingerprints are computed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from jaxtyping import Shaped


def digest(*parts: Any) -> str:
    """Return the first 16 hex digits of the sha256 of values, serialised as JSON.

    >>> digest(["ship"], [0, 0, 4, 4]) == digest(["ship"], [0, 0, 4, 5])
    False
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def digest_array(array: Shaped[np.ndarray, ...]) -> str:
    """Return the first 16 hex digits of the sha256 of an array's values, shape and dtype."""
    hasher = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()[:16]
