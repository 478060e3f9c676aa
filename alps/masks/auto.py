"""Masks of everything: SAM prompted with a grid of points (SAM, section 4 and appendix B)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from segment_anything.utils.amg import batched_mask_to_box, build_point_grid

from alps import rle
from alps.geometry import Tile, cut_tiles
from alps.masks.filter import area_gate, box_nms, stability_score
from alps.masks.stitch import stitch
from alps.sam.segmenter import Embedding, Segmenter, upsample
from alps.types import Masks, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoMasks:
    """SAM's automatic mask generation on tiles.

    With the area gate open (``min_area=0, max_area=1``) an image of one tile gets the masks of
    segment_anything's ``SamAutomaticMaskGenerator`` with the same settings.

    Args:
        segmenter: the SAM.
        points_per_side: the grid has this number squared of points per tile.
        points_per_batch: prompts decoded at once. Small batches stay in a CPU's cache (twice as
            fast as 64); give 64 and more on a GPU.
        pred_iou_thresh: lowest mask quality, as predicted by SAM.
        stability_score_thresh: lowest IoU of the masks cut at ± ``stability_score_offset``.
        stability_score_offset: in logits.
        box_nms_thresh: of two masks with a higher box IoU the one of lower quality goes.
        min_area: smallest mask, as a share of the tile.
        max_area: largest mask, as a share of the tile.
        tile_size: larger images are cut into overlapping tiles of this side, in pixels.
        tile_overlap: pixels that neighbouring tiles share.
    """

    segmenter: Segmenter
    points_per_side: int = 32
    points_per_batch: int = 4
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    min_area: float = 0.0
    max_area: float = 1.0
    tile_size: int = 1024
    tile_overlap: int = 128

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings, and the segmenter's."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "segmenter"}
        return {"source": "auto", **settings, **self.segmenter.identity}

    def __call__(self, sample: Sample) -> Masks:
        """Masks of one image; none is a valid result."""
        tiles = cut_tiles(sample.size, self.tile_size, self.tile_overlap)
        return stitch([(t, self._segment_tile(sample, t)) for t in tiles], sample.size)

    def _segment_tile(self, sample: Sample, tile: Tile) -> Masks:
        embedding = self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1])
        height, width = tile.size
        grid = build_point_grid(self.points_per_side)  # x y in the unit square
        points = (grid * (width, height)).astype(np.float32)
        batches = [
            self._segment_points(
                embedding, points[i : i + self.points_per_batch], tile, sample.size
            )
            for i in range(0, len(points), self.points_per_batch)
        ]
        masks = Masks.cat([masks for masks, _ in batches])
        boxes = torch.cat([boxes for _, boxes in batches])
        keep = box_nms(boxes, torch.from_numpy(masks.predicted_iou), self.box_nms_thresh)
        return masks[keep.numpy()]

    @torch.inference_mode()
    def _segment_points(
        self,
        embedding: Embedding,
        points: Float32[np.ndarray, "P 2"],
        tile: Tile,
        size: tuple[int, int],
    ) -> tuple[Masks, torch.Tensor]:
        """Candidates of some points in image coordinates, and the boxes that SAM's NMS compares.

        Those have inclusive right and lower edges, as in segment_anything.
        """
        found = self.segmenter.predict(
            embedding, points=points, pred_iou_thresh=self.pred_iou_thresh
        )
        logits = upsample(found.logits, embedding)
        stability = stability_score(logits, self.stability_score_offset)
        binary = logits > 0
        keep = (stability >= self.stability_score_thresh) & area_gate(
            binary.flatten(1).sum(1), tile.area, self.min_area, self.max_area
        )
        binary = binary[keep]
        boxes = batched_mask_to_box(binary)
        counts = []
        for mask, (x0, y0, x1, y1) in zip(binary, boxes.tolist(), strict=True):
            window = mask[y0 : y1 + 1, x0 : x1 + 1].cpu().numpy()
            counts.append(rle.encode_window(window, tile.x0 + x0, tile.y0 + y0, size))
        prompts = points[found.prompt[keep].cpu().numpy()] + np.array(
            [tile.x0, tile.y0], np.float32
        )
        masks = Masks.from_counts(
            counts,
            size,
            predicted_iou=found.predicted_iou[keep].float().cpu().numpy(),
            stability_score=stability[keep].float().cpu().numpy(),
            point_coords=prompts,
        )
        return masks, boxes.float().cpu()
