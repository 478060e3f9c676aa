"""Stitching of the masks of overlapping tiles: one mask per object of the image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from alps.masks.agreement import TileMasks, agreeing, group_masks
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.tiles import Tile


def stitch(parts: Sequence[tuple[Tile, Masks]], size: tuple[int, int]) -> Masks:
    """Return the masks of an image, stitched from the masks of its tiles.

    Args:
        parts: pairs of a tile and its masks in image coordinates; empty if no tile has data.
        size: (H, W) of the image.
    """
    if len(parts) == 1:
        return parts[0][1]
    if not any(len(m) for _, m in parts):
        return Masks.empty(size)
    tiles = [TileMasks(tile, masks) for tile, masks in parts]
    starts = np.cumsum([0, *(len(masks) for _, masks in parts)])
    pairs = [
        agreeing(tiles[a], tiles[b]) + starts[[a, b]] for a, b in combinations(range(len(tiles)), 2)
    ]
    masks = Masks.cat([masks for _, masks in parts])
    groups = group_masks(
        np.concatenate(pairs),
        cut=np.concatenate([tile.cut(size) for tile in tiles]),
        predicted_iou=masks.predicted_iou,
        area=masks.area,
    )
    # The mask with the best predicted IoU represents a union.
    members = np.lexsort((np.arange(len(masks)), -masks.predicted_iou, groups.label))
    members = members[groups.kept[members]]
    counts, keep = list(masks.counts), []
    for group in np.split(members, np.flatnonzero(np.diff(groups.label[members])) + 1):
        if len(group) > 1:
            counts[group[0]] = rle.union([masks.counts[i] for i in group], size)
        keep.append(int(group[0]))
    keep.sort()
    return Masks.from_counts(
        [counts[i] for i in keep],
        size,
        predicted_iou=masks.predicted_iou[keep],
        stability_score=masks.stability_score[keep],
        point_coords=masks.point_coords[keep],
    )
