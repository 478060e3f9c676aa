"""Convert masks and boxes to `supervision`, an optional package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped

from alps.errors import MissingPackage


def to_detections(
    *,
    xyxy: Float32[np.ndarray, "N 4"],
    mask: Bool[np.ndarray, "N H W"] | None,
    class_id: Int[np.ndarray, " N"] | None,
    confidence: Float32[np.ndarray, " N"],
    tracker_id: Int[np.ndarray, " N"] | None,
    data: Mapping[str, Shaped[np.ndarray, " N"]],
) -> Any:
    """Return ``supervision.Detections``; a column without a value in any row becomes None.

    Args:
        xyxy: px, right and lower edges exclusive.
        mask: pixels of each mask; None: there are only boxes.
        class_id: class of each row; -1: none.
        confidence: score of each row; NaN: none.
        tracker_id: track of each row; -1: none.
        data: further columns by name.

    Raises:
        MissingPackage: supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise MissingPackage(
            "to_supervision() needs supervision, which is not installed: pip install supervision, "
            "or in a clone of ALPS pip install -e '.[supervision]'"
        ) from error
    return Detections(
        xyxy=xyxy,
        mask=mask,
        class_id=class_id,
        confidence=None if np.isnan(confidence).all() else confidence,
        tracker_id=None if tracker_id is None or (tracker_id < 0).all() else tracker_id,
        data={**data},
    )
