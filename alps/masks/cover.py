"""Masks that cover more of the image: further passes of SAM with lower thresholds.

One pass of SAM leaves much of a remote-sensing scene unlabelled. A further pass decodes only the
grid points on uncovered pixels, so its cost falls with the uncovered share of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32

from alps.masks.filter import values_at
from alps.masks.proposals import CropProposal, Proposal
from alps.structures.tiles import Tile

#: Share of uncovered pixels that a mask of a further pass needs.
UNCOVERED = 0.5

#: Returns the masks of points of a tile for a (pred_iou_thresh, stability_score_thresh).
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
    """Prompt a tile again on pixels that no mask covers yet.

    Args:
        first: masks of the first pass, in the tile or in crops of it.
        tile: the tile.
        points: (x, y) of the grid, in pixels of the tile.
        valid: which pixels of the tile hold data; others are not prompted.
        passes: pairs (pred_iou_thresh, stability_score_thresh), one per further pass.
        propose: returns the masks of some of the points.

    Returns:
        The additional masks, each of which covers mostly uncovered pixels.
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
    """Return a view of the part of a tile's map that lies under a box of a crop."""
    dx, dy = crop.x0 - tile.x0, crop.y0 - tile.y0
    x0, y0, x1, y1 = box
    return covered[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
