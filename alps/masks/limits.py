"""Valid settings of mask sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alps.structures.settings import (
    NO_SETTINGS,
    TILES,
    Choice,
    Flag,
    Key,
    Limits,
    ListOf,
    Number,
    Settings,
)

#: Kinds of prompts that are derived from a box.
PROMPTS = (
    "hbox",  # the horizontal box as annotated
    "rhbox",  # the horizontal box around the rotated one
    "center",  # the centre of the box
    "hbox+center",
    "hbox_mask",  # the filled box as a mask prompt
    "rhbox_mask",
    "rbox_mask",  # the filled rotated box as a mask prompt
)


@dataclass(frozen=True, slots=True)
class CropLayers:
    """A number of crop layers, in each of which a crop has at least one point.

    Args:
        grid: names of the settings of the points per side and of their divisor per layer.
    """

    grid: tuple[str, str]

    def expected(self, value: Any, settings: Settings = NO_SETTINGS, key: Key = str) -> str | None:
        """Return None if a value is valid, else a description of the valid values."""
        expected = Number(at_least=0, integer=True).expected(value)
        side, factor = (settings.get(name) for name in self.grid)
        if expected is not None or side is None or factor is None or side >= factor**value:
            return expected
        return (
            "fewer layers, because crops of the last one have no point; raise "
            f"{key(self.grid[0])}={side} or lower {key(self.grid[1])}={factor}"
        )


FRACTION = Number(at_least=0, at_most=1)
SUPERPIXEL = Number(at_least=4, integer=True, also=(0,), noun="an integer number of pixels")
PASSES = ListOf(
    each=ListOf(each=FRACTION, noun="a pair", holds=lambda pair: len(pair) == 2),
    noun="a list of pairs [pred_iou_thresh, stability_score_thresh], each in [0, 1]",
    holds=lambda _: True,
)

LIMITS: Mapping[str, Limits] = {
    "alps.masks.AutoMasks": {
        "points_per_side": Number(at_least=1, integer=True),
        "points_per_batch": Number(at_least=1, integer=True, also=(None,)),
        "pred_iou_thresh": FRACTION,
        "stability_score_thresh": FRACTION,
        "stability_score_offset": Number(at_least=0),
        "box_nms_thresh": FRACTION,
        "min_area": FRACTION,
        "max_area": Number(above=0, at_most=1),
        "crop_n_points_downscale_factor": Number(at_least=1, integer=True),
        "crop_n_layers": CropLayers(("points_per_side", "crop_n_points_downscale_factor")),
        "crop_overlap_ratio": Number(at_least=0, below=1),
        "crop_nms_thresh": FRACTION,
        "passes": PASSES,
        "ground": SUPERPIXEL,
        "fast": Flag(),
        "screen": Flag(),
        "threads": Number(at_least=1, integer=True),
        **TILES,
    },
    "alps.masks.BoxMasks": {
        "prompt": Choice(PROMPTS),
        "min_part": Number(above=0, at_most=0.25, noun="a fraction (a box may lie in four tiles)"),
        "best": Flag(),
        "fast": Flag(),
        **TILES,
    },
    "alps.masks.StoredMasks": {"ground": SUPERPIXEL},
}
