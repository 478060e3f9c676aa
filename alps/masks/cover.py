"""Further passes of SAM with lower thresholds, for masks of pixels that are still uncovered.

One pass of SAM leaves much of a remote-sensing image uncovered. A further pass decodes only the
grid points on uncovered pixels, so it takes less time the more is covered already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32

from alps.masks.candidates import Proposal
from alps.masks.filter import values_at
from alps.masks.proposals import CropProposal
from alps.structures.tiles import Tile

#: Fraction of a mask's pixels that must be uncovered for a further pass to add it.
UNCOVERED = 0.5

#: Predicts masks from points of a tile with (pred_iou_thresh, stability_score_thresh).
Propose = Callable[[Float32[np.ndarray, "P 2"], Sequence[float]], Sequence[Proposal]]


def further_masks(
    first: Sequence[CropProposal],
    tile: Tile,
    points: Float32[np.ndarray, "P 2"],
    *,
    valid: Bool[np.ndarray, "H W"],
    passes: Sequence[Sequence[float]],
    propose: Propose,
) -> list[CropProposal]:
    """Prompt SAM again with the points of a tile that no mask covers.

    Args:
        first: masks of the first pass over the tile or its crops.
        tile: the tile.
        points: points of the grid, (x, y) in pixels of the tile.
        valid: pixels of the tile that have data; points elsewhere are skipped.
        passes: pairs (pred_iou_thresh, stability_score_thresh), one per further pass.
        propose: predicts masks from points.

    Returns:
        The additional masks, each of which covered mostly uncovered pixels.
    """
    covered = ~valid
    for mask in first:
        _view(covered, tile, mask.crop, mask.proposal.box)[mask.proposal.window] = True
    further: list[CropProposal] = []
    for thresholds in passes:
        prompts = points[~values_at(covered, points)]
        if not len(prompts):
            break
        for proposal in propose(prompts, thresholds):
            view = _view(covered, tile, tile, proposal.box)
            new = proposal.window & ~view
            if new.sum() >= UNCOVERED * proposal.window.sum():
                view[proposal.window] = True
                further.append(CropProposal(tile, proposal, prompts[proposal.prompt]))
    return further


def _view(
    covered: Bool[np.ndarray, "H W"], tile: Tile, crop: Tile, box: tuple[int, int, int, int]
) -> Bool[np.ndarray, "h w"]:
    """Return the view of a tile's map inside a box, which is xyxy in pixels of a crop."""
    dx, dy = crop.x0 - tile.x0, crop.y0 - tile.y0
    x0, y0, x1, y1 = box
    return covered[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
