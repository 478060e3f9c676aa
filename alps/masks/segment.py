"""Masks of a single image."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from alps.masks.auto import AutoMasks
from alps.sam.load import load_segmenter
from alps.structures.masks import Masks
from alps.structures.records import Sample


def segment(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    valid: Bool[np.ndarray, "H W"] | None = None,
    points_per_side: int = 32,
    sam: str = "mobile",
    checkpoint: str | None = None,
    device: str = "auto",
    threads: int = 2,
    **settings: Any,
) -> Masks:
    """Cut an image into masks, as `alps.label` does by default.

    The first call downloads and verifies the weights; they stay in memory for later calls.

    Args:
        image: RGB.
        valid: pixels that have data; None: all.
        points_per_side: number of point prompts along each side of a tile of 1024 px.
        sam: ``mobile``, ``vit_b``, ``vit_l`` or ``vit_h``.
        checkpoint: path of the weights; None: the official weights.
        device: ``cpu``, ``cuda`` or ``auto``.
        threads: number of CPU threads, which does not affect the masks.
        **settings: further settings of `alps.masks.AutoMasks`, such as ``ground=0`` for no
            superpixels.

    Returns:
        SAM's masks, followed by the superpixels, whose scores are NaN.

    Raises:
        ConfigError: a setting is out of range.
        ImageError: the image or ``valid`` has the wrong type or shape.
        WeightsNotFound: the weights cannot be fetched.
    """
    source = AutoMasks(
        segmenter=load_segmenter(sam, checkpoint, device),
        points_per_side=points_per_side,
        threads=threads,
        **settings,
    )
    return source(Sample("image", image, valid=valid))
