"""Automatic mask generation: SAM with a grid of points (SAM, section 4 and appendix B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from alps.errors import Unavailable
from alps.masks.candidates import Box, Proposal, Thresholds
from alps.masks.cover import further_masks
from alps.masks.filter import near_crop_edge, pixel_box_iou, values_at
from alps.masks.limits import LIMITS
from alps.masks.proposals import CropProposal, Proposer
from alps.masks.stitch import stitch
from alps.masks.superpixels import add_superpixels
from alps.sam.protocol import Segmenter
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes
from alps.structures.tiles import Tile

#: Settings with which `AutoMasks` gives the masks of segment_anything's default settings.
SAM_SETTINGS: Mapping[str, Any] = {
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.95,
    "min_area": 0.0,
    "ground": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoMasks:
    """SAM's automatic mask generation on tiles.

    The defaults give more masks of aerial images than SAM's defaults. With `SAM_SETTINGS`, an
    image of one tile gets the masks of segment_anything's ``SamAutomaticMaskGenerator``.

    Args:
        segmenter: SAM.
        points_per_side: points along each side of a tile; a tile gets the square of this number.
        points_per_batch: number of prompts per batch; None: 16 on a CPU, 256 on a GPU.
        pred_iou_thresh: masks with a lower predicted IoU are dropped.
        stability_score_thresh: minimum stability score, the IoU of the two masks thresholded at
            ``-stability_score_offset`` and ``+stability_score_offset``.
        stability_score_offset: offset of the two thresholds from 0, in logits.
        box_nms_thresh: box IoU above which the mask with the lower predicted IoU is dropped.
        min_area: area of the smallest mask, as a fraction of the tile's area.
        max_area: area of the largest mask, as a fraction of the tile's area.
        crop_n_layers: number of layers of smaller crops that are segmented too; layer i has
            2^i × 2^i crops.
        crop_n_points_downscale_factor: factor f; layer i has ``points_per_side`` / f^i points per
            side.
        crop_overlap_ratio: overlap of the crops of the first layer, as a fraction of the tile's
            shorter side.
        crop_nms_thresh: box IoU of two masks of different crops above which the mask of the larger
            crop is dropped.
        passes: pairs (pred_iou_thresh, stability_score_thresh) in descending order. For each pair,
            SAM is prompted again with the grid points on uncovered pixels (see `alps.masks.cover`).
        tile_size: side of the overlapping tiles that larger images are cut into, in pixels.
        tile_overlap: overlap of neighbouring tiles, in pixels.
        ground: side of the superpixels that uncovered pixels are split into, in pixels (see
            `alps.masks.superpixels`); 0: no superpixels.
        fast: compute logits in bfloat16 if the hardware supports it (see `alps.masks.proposals`).
            Masks differ slightly from those of float32, so the fingerprint contains the setting.
        screen: decode all points at half the resolution, then decode at full resolution only the
            points that gave a new mask (see `alps.masks.screen`). This halves the time and loses a
            few, mostly tiny, masks.
        threads: number of CPU threads that decode the prompts; it does not affect the masks.

    Raises:
        ConfigError: a setting is out of range.
    """

    segmenter: Segmenter
    points_per_side: int = 32
    points_per_batch: int | None = None
    pred_iou_thresh: float = 0.7
    stability_score_thresh: float = 0.85
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    min_area: float = 0.0001
    max_area: float = 1.0
    crop_n_layers: int = 0
    crop_n_points_downscale_factor: int = 1
    crop_overlap_ratio: float = 512 / 1500
    crop_nms_thresh: float = 0.7
    passes: Sequence[Sequence[float]] = ()
    tile_size: int = 1024
    tile_overlap: int = 128
    ground: int = 16
    fast: bool = False
    screen: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.masks.AutoMasks"], self)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings that affect the masks, with the segmenter's; ``version`` counts code changes."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        del settings["segmenter"], settings["threads"]
        source = "AutoMasks"
        if self.passes:  # earlier versions had a separate class, whose fingerprints stay valid
            source, settings["passes"] = "CoverMasks", [[*pair] for pair in self.passes]
        else:
            del settings["passes"]
        in_order = dict(sorted(settings.items()))
        return {"source": source, "version": 3, **in_order, **self.segmenter.identity}

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Embed the tiles of the next images; tiles without data are skipped."""
        self.segmenter.prefetch(
            [
                sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1]
                for sample in samples
                for tile in sample.tiles(self.tile_size, self.tile_overlap)
            ]
        )

    def __call__(self, sample: Sample) -> Masks:
        """Return the masks of one image, possibly none.

        Raises:
            Unavailable: the memory of the GPU does not suffice for a batch of prompts.
        """
        return self.finish(sample, self.segment(sample))

    def segment(self, sample: Sample) -> Masks:
        """Return SAM's masks of one image.

        Raises:
            Unavailable: the memory of the GPU does not suffice for a batch of prompts.
        """
        tiles = sample.tiles(self.tile_size, self.tile_overlap)
        try:
            parts = [_to_masks(self._segment_tile(sample, tile), sample.size) for tile in tiles]
        except torch.OutOfMemoryError as error:
            # A smaller batch would round differently, so it is a setting of the store.
            raise Unavailable(
                f"the memory of the GPU is too small for {self._batch} prompts at a time "
                f"({str(error).partition('. ')[0]}); set masks.points_per_batch to half of that, "
                "run fewer processes per GPU (engine.processes, engine.actors), or end other "
                "programs on it"
            ) from error
        return stitch(list(zip(tiles, parts, strict=True)), sample.size)

    def finish(self, sample: Sample, masks: Masks) -> Masks:
        """Append the superpixels of uncovered pixels to SAM's masks."""
        return add_superpixels(masks, sample, self.ground)

    def _segment_tile(self, sample: Sample, tile: Tile) -> list[CropProposal]:
        """Segment the whole tile, then the crops of each layer, as SAM does (appendix B)."""
        height, width = tile.size
        crops: list[tuple[Box, int]] = [((0, 0, width, height), 0)]
        if self.crop_n_layers:
            from segment_anything.utils import amg  # importing it takes seconds

            layers = amg.generate_crop_boxes(tile.size, self.crop_n_layers, self.crop_overlap_ratio)
            crops = [
                (tuple(box), layer)
                for box, layer in zip(*layers, strict=True)
                if box[0] < box[2] and box[1] < box[3]  # a tile one pixel wide has empty crops
            ]
        masks = [
            mask for box, layer in crops for mask in self._segment_crop(sample, tile, box, layer)
        ]
        if len(crops) > 1:
            masks = [masks[i] for i in self._best_of_crops(masks)]
        if self.passes:
            masks += further_masks(
                masks,
                tile,
                self._points(tile, layer=0),
                valid=sample.valid_in(tile),
                passes=self.passes,
                propose=partial(self._propose_further, sample, tile),
            )
        return masks

    def _segment_crop(self, sample: Sample, tile: Tile, box: Box, layer: int) -> list[CropProposal]:
        """Segment one crop: ``box`` is its xyxy in the tile, ``layer`` its crop layer."""
        x0, y0, x1, y1 = box
        crop = Tile(tile.x0 + x0, tile.y0 + y0, tile.x0 + x1, tile.y0 + y1)
        points = self._points(crop, layer)
        if sample.valid is not None:
            points = points[values_at(sample.valid_in(crop), points)]
            if not len(points):
                return []
        thresholds = self._thresholds(tile)
        propose = self._proposer(sample, crop, points, thresholds, screen=self.screen)
        proposals = propose(lambda b: not near_crop_edge(b, box, tile.size))
        return [CropProposal(crop, proposal, points[proposal.prompt]) for proposal in proposals]

    def _propose_further(
        self, sample: Sample, tile: Tile, points: Float32[np.ndarray, "P 2"], pair: Sequence[float]
    ) -> list[Proposal]:
        """Prompt SAM with points of a tile, with the two thresholds of a further pass."""
        thresholds = replace(
            self._thresholds(tile), pred_iou_thresh=pair[0], stability_score_thresh=pair[1]
        )
        return self._proposer(sample, tile, points, thresholds)()

    def _proposer(
        self,
        sample: Sample,
        crop: Tile,
        points: Float32[np.ndarray, "P 2"],
        thresholds: Thresholds,
        *,
        screen: bool = False,
    ) -> Proposer:
        """Return a `Proposer` for point prompts, (x, y) in pixels of a crop."""
        return Proposer(
            self.segmenter,
            self.segmenter.embed(sample.image[crop.y0 : crop.y1, crop.x0 : crop.x1]),
            points,
            points_per_batch=self._batch,
            thresholds=thresholds,
            fast=self.fast,
            screen=screen,
            threads=self.threads,
            valid=None if sample.valid is None else sample.valid_in(crop),
        )

    @property
    def _batch(self) -> int:
        """Number of prompts per batch."""
        return self.points_per_batch or self.segmenter.points_per_batch

    def _points(self, crop: Tile, layer: int) -> Float32[np.ndarray, "P 2"]:
        """Return the grid of a crop layer like amg.build_point_grid, (x, y) in crop pixels."""
        side = self._side(layer)
        height, width = crop.size
        steps = np.linspace(0.5 / side, 1 - 0.5 / side, side)
        x, y = np.meshgrid(steps * width, steps * height)
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)

    def _side(self, layer: int) -> int:
        """Return the number of points along a side of a crop."""
        return int(self.points_per_side / self.crop_n_points_downscale_factor**layer)

    def _thresholds(self, tile: Tile) -> Thresholds:
        """Return the thresholds, with areas in pixels of the tile."""
        return Thresholds(
            pred_iou_thresh=self.pred_iou_thresh,
            stability_score_thresh=self.stability_score_thresh,
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=self.box_nms_thresh,
            min_area=self.min_area * tile.area,
            max_area=self.max_area * tile.area,
        )

    def _best_of_crops(self, masks: Sequence[CropProposal]) -> list[int]:
        """Return the indices of masks kept by NMS across crops, which prefers smaller crops."""
        boxes = np.array(
            [
                (m.crop.x0 + x0, m.crop.y0 + y0, m.crop.x0 + x1, m.crop.y0 + y1)
                for m in masks
                for x0, y0, x1, y1 in [m.proposal.box]
            ],
            dtype=np.float32,
        ).reshape(-1, 4)
        keep: list[int] = []
        for i in sorted(range(len(masks)), key=lambda i: masks[i].crop.area):
            if not (pixel_box_iou(boxes[i], boxes[keep]) > self.crop_nms_thresh).any():
                keep.append(i)
        return keep


def _to_masks(masks: Sequence[CropProposal], size: tuple[int, int]) -> Masks:
    """Convert proposals of crops to masks of an image of ``size`` (H, W)."""
    counts, points = [], []
    for mask in masks:
        x, y, *_ = mask.proposal.box
        counts.append(
            rle.encode_window(mask.proposal.window, mask.crop.x0 + x, mask.crop.y0 + y, size)
        )
        points.append(mask.point + np.array([mask.crop.x0, mask.crop.y0], np.float32))
    proposals = [mask.proposal for mask in masks]
    return Masks.from_counts(
        counts,
        size,
        predicted_iou=np.array([p.predicted_iou for p in proposals], np.float32),
        stability_score=np.array([p.stability_score for p in proposals], np.float32),
        point_coords=np.array(points, np.float32).reshape(-1, 2),
    )
