"""Kernels and waits of the default recipe, from the encoder to run lengths and features."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from alps.features.joined import JoinedFeatures
from alps.features.shape import ShapeFeatures
from alps.features.timm import TimmFeatures
from alps.masks.auto import AutoMasks
from alps.masks.candidates import StackCandidates
from alps.sam.decoder import FoldedDecoder
from alps.sam.segmenter import SamSegmenter
from alps.structures.masks import Masks
from alps.structures.records import Sample
from tests.pretend_cuda import PretendCuda

#: Most kernels and waits of one image of 1024 px with 32 × 32 prompts. When each mask was measured
#: and drawn alone, they were 365,501 and 40,309.
MAX_KERNELS, MAX_WAITS = 2000, 20

STAGES = {
    "encode": [(SamSegmenter, "_encode")],
    "decode": [(FoldedDecoder, name) for name in ("prepare", "decode")],
    "upscale": [(FoldedDecoder, "upscale")],
    "measure": [(StackCandidates, "collect")],
    "draw": [(StackCandidates, "proposals")],
    "features": [(TimmFeatures, "__call__")],
}


def default_recipe(
    segmenter: SamSegmenter, image: np.ndarray, points_per_side: int
) -> Callable[[], Masks]:
    """Load the networks, and return a function that labels the image at 1024 px on a GPU."""
    sample = Sample("tile", cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC))
    features = JoinedFeatures(parts={"timm": TimmFeatures(device="cuda"), "shape": ShapeFeatures()})
    small = Sample("small", image[:64, :64].copy())
    features(small, AutoMasks(segmenter=segmenter, points_per_side=1)(small))
    source = AutoMasks(segmenter=segmenter, points_per_side=points_per_side)

    def label() -> Masks:
        masks = source(sample)
        features(sample, masks)
        return masks

    return label


def check_launches(
    cuda: PretendCuda, segmenter: SamSegmenter, image: np.ndarray, points_per_side: int
) -> None:
    """Label an image on the pretend GPU, print the table, and compare it with the budgets."""
    label = default_recipe(segmenter, image, points_per_side)
    with cuda.stages(STAGES):
        cuda.reset()
        masks = label()
    print(f"\n{points_per_side}² points, {len(masks)} masks\n{cuda.table()}")  # noqa: T201
    assert cuda.kernels.total() <= MAX_KERNELS
    assert cuda.waits.total() <= MAX_WAITS
