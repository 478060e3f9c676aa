"""Values of masks as the files of COCO and its kin write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from alps.types import Masks


def segmentation(masks: Masks, i: int) -> dict[str, Any]:
    """One mask, run-length encoded."""
    return {"size": [*masks.size], "counts": masks.counts[i].decode("ascii")}


def floats(values: Float32[np.ndarray, " n"]) -> list[float | None]:
    """In the fewest digits that mean the same float32; None, which JSON has, for NaN.

    >>> floats(np.array([0.1, 20, np.nan], np.float32))
    [0.1, 20.0, None]
    """
    return [None if np.isnan(value) else float(str(value)) for value in values]


def to_json(row: Mapping[str, Any]) -> str:
    """One line."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False)
