"""Masks that cover more of the image: further passes of SAM with lower thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from alps.errors import ConfigError
from alps.masks.auto import AutoMasks, Found, values_at
from alps.masks.proposals import Proposer
from alps.structures.numbers import is_number
from alps.structures.records import Sample
from alps.structures.tiles import Tile

#: Share of uncovered pixels that a mask of a later pass needs.
NEW_GROUND = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverMasks(AutoMasks):
    """`AutoMasks`, then further passes over the points that no mask covers yet.

    One pass of SAM leaves much of a remote-sensing scene unlabelled. A later pass decodes only the
    grid points on uncovered pixels, so its cost falls with the uncovered share of the image.

    Args:
        passes: pairs (pred_iou_thresh, stability_score_thresh), one per further pass, in descending
            order.
    """

    passes: Sequence[Sequence[float]] = ((0.8, 0.9), (0.7, 0.8), (0.5, 0.6))

    def __post_init__(self) -> None:
        AutoMasks.__post_init__(self)  # super() does not work in a dataclass with slots
        pairs = isinstance(self.passes, Sequence) and all(
            isinstance(p, Sequence) and len(p) == 2 and all(is_number(x, "[0, 1]") for x in p)
            for p in self.passes
        )
        if not pairs:
            raise ConfigError(
                f"masks.passes={self.passes}: expected a list of pairs "
                "[pred_iou_thresh, stability_score_thresh], each in [0, 1]"
            )

    def _segment_tile(self, sample: Sample, tile: Tile) -> list[Found]:
        """Segment a tile as `AutoMasks`, then in further passes over uncovered points."""
        found = AutoMasks._segment_tile(self, sample, tile)
        points = self._points(tile, layer=0)
        valid = sample.valid_in(tile)
        covered = ~valid  # points on pixels without data are not decoded
        for crop, proposal, _ in found:
            _view(covered, tile, crop, proposal.box)[proposal.window] = True
        for pred_iou_thresh, stability_score_thresh in self.passes:
            bare = points[~values_at(covered, points)]
            if not len(bare):
                break
            propose = Proposer(
                self.segmenter,
                self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1]),
                bare,
                points_per_batch=self.points_per_batch or self.segmenter.points_per_batch,
                thresholds=replace(
                    self._thresholds(tile),
                    pred_iou_thresh=pred_iou_thresh,
                    stability_score_thresh=stability_score_thresh,
                ),
                fast=self.fast,
                threads=self.threads,
                valid=None if sample.valid is None else valid,
            )
            for proposal in propose():
                ground = _view(covered, tile, tile, proposal.box)
                new = proposal.window & ~ground
                if new.sum() >= NEW_GROUND * proposal.window.sum():
                    ground[proposal.window] = True
                    found.append((tile, proposal, bare[proposal.prompt]))
        return found


def _view(
    covered: Bool[np.ndarray, "H W"], tile: Tile, crop: Tile, box: tuple[int, int, int, int]
) -> Bool[np.ndarray, "h w"]:
    """Return a view of the part of a tile's map that lies under a box of a crop."""
    dx, dy = crop.x0 - tile.x0, crop.y0 - tile.y0
    x0, y0, x1, y1 = box
    return covered[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
