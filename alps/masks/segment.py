"""Masks of a single image, in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from alps.masks.auto import AutoMasks
from alps.sam.segmenter import load_segmenter
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
    """Cut an image into masks, without prompts, as `label` does by default.

    The weights are downloaded and verified at the first call, and kept in memory for the next.

    Args:
        image: RGB.
        valid: which pixels are data; None: all of them.
        points_per_side: the grid of prompts has this number squared of points per tile of 1024 px.
        sam: ``mobile``, ``vit_b``, ``vit_l`` or ``vit_h``.
        checkpoint: path of other weights of that network; None: the official ones.
        device: ``cpu``, ``cuda`` or ``auto``.
        threads: CPU threads; their number does not change the masks.
        **settings: any other setting of `alps.masks.AutoMasks`; ``ground=0`` leaves what no mask
            covers without superpixels.

    Returns:
        The masks, those of SAM before the superpixels, whose scores are NaN.

    Raises:
        ConfigError: a setting is out of its range.
        ImageError: the image or ``valid`` has another type or shape.
        WeightsNotFound: the weights cannot be fetched.
    """
    source = AutoMasks(
        segmenter=load_segmenter(sam, checkpoint, device),
        points_per_side=points_per_side,
        threads=threads,
        **settings,
    )
    return source(Sample("image", image, valid=valid))
