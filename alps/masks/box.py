"""A mask for each annotated box of an image, predicted by SAM from the box.

This follows SAMRS (arXiv 2305.02034, section 3), which compares prompts and takes one mask per
prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64

from alps.errors import ImageError
from alps.masks.filter import box_iou
from alps.masks.limits import LIMITS
from alps.masks.valid import keep_data
from alps.sam.protocol import Embedding, Segmenter
from alps.sam.upsample import Axis, Patch
from alps.structures import rle
from alps.structures.boxes import Boxes
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes
from alps.structures.tiles import Tile, cut_tiles

#: Logit of a mask prompt inside a box, and its negative outside, as in SAMRS.
MASK_PROMPT = 1000.0
BATCH = 32  # boxes per batch; the prompts of a batch share one pass over the weights
#: A quadrilateral that fills less than this fraction of its horizontal box counts as rotated.
ROTATED_FRACTION = 0.95
#: The extent of an empty mask.
EMPTY = (0, 0, 0, 0)
#: A tile that contains at least this fraction of a box contains it completely; below 1 to allow for
#: rounding.
COMPLETE = 1.0 - 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxMasks:
    """One mask per box, in the order of the boxes.

    Images larger than a tile are cut into overlapping tiles. A box is prompted in the tile that
    contains it completely; if several do, in the one with the nearest centre. If none does, the box
    is prompted in all tiles that contain at least ``min_part`` of it, and its mask is the union of
    the results. Masks that lie mostly on pixels without data are dropped (`alps.masks.valid`).

    Args:
        segmenter: SAM.
        prompt: one of `alps.masks.limits.PROMPTS`.
        tile_size: side of the tiles that larger images are cut into, in pixels.
        tile_overlap: overlap of neighbouring tiles, in pixels.
        min_part: smallest fraction of a box's area with which it is prompted in a tile.
        best: select the mask with the largest product of predicted IoU and box IoU among SAM's four
            masks of a prompt. The box IoU compares the extent of the mask with the box; for a
            rotated box it is multiplied by the IoU of their extents along the box's sides. If
            False, take SAM's first mask, as SAMRS does.
        fast: compute logits only near the box (see `alps.sam.protocol.Segmenter.predict`).

    Raises:
        ConfigError: the prompt is unknown, or a number is out of range.
    """

    segmenter: Segmenter
    prompt: str = "hbox"
    tile_size: int = 1024
    tile_overlap: int = 256
    min_part: float = 0.1
    best: bool = True
    fast: bool = True

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.masks.BoxMasks"], self)

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings and those of the segmenter; ``version`` counts changes of the algorithm."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "segmenter"}
        source = {"source": type(self).__name__, "version": 2}
        return {**source, **settings, **self.segmenter.identity}

    def prefetch(self, samples: Sequence[Sample]) -> None:
        """Embed the tiles of the next images in which a box is prompted."""
        self.segmenter.prefetch(
            [
                sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1]
                for sample in samples
                for tile, _ in self._prompted_tiles(sample)
            ]
        )

    def __call__(self, sample: Sample) -> Masks:
        """Return the masks of one image; boxes without any pixel with data are skipped.

        Raises:
            ImageError: the image set has no boxes.
        """
        boxes = _boxes(sample)
        pieces: list[list[tuple[bytes, float]]] = [[] for _ in range(len(boxes))]
        for tile, rows in self._prompted_tiles(sample):
            embedding = self.segmenter.embed(sample.image[tile.y0 : tile.y1, tile.x0 : tile.x1])
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                predicted = self._predict(embedding, tile, boxes[batch])
                for row, (box, window, iou) in zip(batch, predicted, strict=True):
                    at = tile.x0 + box[0], tile.y0 + box[1]
                    pieces[row].append((rle.encode_window(window, *at, sample.size), iou))
        prompted = np.array([len(parts) > 0 for parts in pieces], dtype=bool)
        pieces, boxes = [parts for parts in pieces if parts], boxes[prompted]
        counts = [
            parts[0][0] if len(parts) == 1 else rle.union([c for c, _ in parts], sample.size)
            for parts in pieces
        ]
        masks = Masks.from_counts(
            counts,
            sample.size,
            predicted_iou=np.array([max(iou for _, iou in parts) for parts in pieces], np.float32),
            point_coords=_centers(boxes) if "center" in self.prompt else None,
            boxes=boxes,
        )
        return keep_data(masks, sample.valid)

    def _prompted_tiles(self, sample: Sample) -> Iterator[tuple[Tile, Int64[np.ndarray, " n"]]]:
        """Yield each tile with data, and the indices of the boxes that are prompted in it."""
        boxes = _boxes(sample)
        tiles = cut_tiles(sample.size, self.tile_size, self.tile_overlap)
        chosen = choose_tiles(boxes.xyxy, tiles, self.min_part)
        if sample.valid is not None:
            chosen &= np.array(
                [[_valid_in_box(box, sample).any()] for box in boxes.xyxy], bool
            ).reshape(-1, 1)
        for tile, column in zip(tiles, chosen.T, strict=True):
            if column.any() and (sample.valid is None or sample.valid_in(tile).any()):
                yield tile, np.flatnonzero(column)

    def _predict(
        self, embedding: Embedding, tile: Tile, boxes: Boxes
    ) -> Iterator[tuple[tuple[int, int, int, int], Bool[np.ndarray, "h w"], float]]:
        """Yield the mask of each box: extent in the tile, pixels in the extent, predicted IoU."""
        prompts = self._prompts(tile, boxes, embedding)
        prediction = self.segmenter.predict(
            embedding,
            points=prompts.get("points"),
            boxes=prompts.get("boxes"),
            masks=prompts.get("masks"),
            multimask_output=None if self.best else False,
            fast=self.fast,
        )
        side = max(embedding.input_size)
        axes = [
            Axis(embedding.low_res, side, used, pixels, prediction.logits.device)
            for used, pixels in zip(embedding.input_size, embedding.size, strict=True)
        ]
        patches = [Patch.cut(logits, 0.0, *axes) for logits in prediction.logits]
        extents = [(patch and patch.box()) or EMPTY for patch in patches]
        ious = prediction.predicted_iou.cpu().numpy()
        per_box = len(patches) // len(boxes)
        inside = boxes.xyxy - np.array([tile.x0, tile.y0] * 2, np.float32)
        quads = boxes.quad.reshape(-1, 4, 2) - np.array([tile.x0, tile.y0], np.float32)
        for i, (box, quad) in enumerate(zip(inside, quads, strict=True)):
            candidates = slice(i * per_box, (i + 1) * per_box)
            quality = ious[candidates] * box_iou(box, np.array(extents[candidates], np.float32))
            if per_box > 1 and is_rotated(quad):
                pairs = zip(patches[candidates], extents[candidates], strict=True)
                quality *= [rotated_iou(quad, _window(*pair), pair[1]) for pair in pairs]
            j = i * per_box + int(quality.argmax())
            yield extents[j], _window(patches[j], extents[j]), float(ious[j])

    def _prompts(self, tile: Tile, boxes: Boxes, embedding: Embedding) -> dict[str, np.ndarray]:
        """Return the prompts of the boxes by kind, in pixels of the tile."""
        corner = np.array([tile.x0, tile.y0], np.float32)
        limit = np.array(tile.size[::-1], np.float32)
        quads = boxes.quad.reshape(-1, 4, 2) - corner
        xyxy = (boxes.xyxy.reshape(-1, 2, 2) - corner).clip(0, limit).reshape(-1, 4)
        corners = np.stack([quads.min(1), quads.max(1)], axis=1)
        around = corners.clip(0, limit).reshape(-1, 4)
        center = (_centers(boxes) - corner).clip(0, limit)
        if self.prompt in ("hbox", "rhbox"):
            return {"boxes": xyxy if self.prompt == "hbox" else around}
        if self.prompt == "center":
            return {"points": center}
        if self.prompt == "hbox+center":
            return {"boxes": xyxy, "points": center}
        if self.prompt != "rbox_mask":
            rectangles = xyxy if self.prompt == "hbox_mask" else around
            quads = rectangles[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        return {"masks": np.stack([_fill(quad, embedding) for quad in quads])}


def is_rotated(quad: Float32[np.ndarray, "4 2"]) -> bool:
    """Return whether a quadrilateral is clearly smaller than the horizontal box around it."""
    x, y = quad.T.astype(np.float64)
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    return bool(area < ROTATED_FRACTION * np.ptp(x) * np.ptp(y))


def rotated_iou(
    quad: Float32[np.ndarray, "4 2"],
    window: Bool[np.ndarray, "h w"],
    extent: tuple[int, int, int, int],
) -> float:
    """Return the IoU of a quadrilateral and a mask after rotation to the longest side.

    Both are represented by their extents parallel to the longest side of the quadrilateral.

    Args:
        quad: corners (x, y) of the quadrilateral, in pixels.
        window: pixels of the mask in its extent.
        extent: extent of the mask, xyxy in pixels.

    Returns:
        The IoU in [0, 1]; 0 for an empty mask.
    """
    rows = np.flatnonzero(window.any(1))
    if not len(rows):
        return 0.0
    sides = np.roll(quad, -1, axis=0) - quad
    x, y = max(sides.tolist(), key=lambda side: np.hypot(*side)) / np.hypot(*sides.T).max()
    axes = np.array([[x, -y], [y, x]])
    # The first and last pixel of each row suffice, because the pixels between them lie inside.
    first, last = window[rows].argmax(1), window.shape[1] - 1 - window[rows, ::-1].argmax(1)
    pixels = np.stack([np.append(first, last), np.append(rows, rows)], axis=1) + 0.5
    rotated, corners = (pixels + extent[:2]) @ axes, quad @ axes
    margin = (abs(x) + abs(y)) / 2  # from a pixel's centre to its farthest corner
    mask = np.append(rotated.min(0) - margin, rotated.max(0) + margin)
    return float(box_iou(np.append(corners.min(0), corners.max(0)), mask[None])[0])


def choose_tiles(
    xyxy: Float32[np.ndarray, "N 4"], tiles: Sequence[Tile], min_part: float
) -> Bool[np.ndarray, "N T"]:
    """Choose the tiles in which each box is prompted.

    Args:
        xyxy: boxes inside the image, in pixels.
        tiles: T tiles that cover the image.
        min_part: smallest fraction of a box's area in a tile, if no tile contains the whole box.

    Returns:
        Whether each box is prompted in each tile: in the tile with the nearest centre among those
        that contain the whole box, or else in all that contain ``min_part`` of it.
    """
    window = np.array([(t.x0, t.y0, t.x1, t.y1) for t in tiles], np.float64)
    box = xyxy[:, None].astype(np.float64)
    sides = np.minimum(box[..., 2:], window[:, 2:]) - np.maximum(box[..., :2], window[:, :2])
    part = sides.clip(min=0).prod(2) / (box[..., 2:] - box[..., :2]).prod(2)
    middle = (window[:, :2] + window[:, 2:]) / 2
    distance = np.square((box[..., :2] + box[..., 2:]) / 2 - middle).sum(2)
    whole = part >= COMPLETE
    best = np.where(whole, distance, np.inf).argmin(1)[:, None] == np.arange(len(tiles))
    chosen: np.ndarray = np.where(whole.any(1, keepdims=True), best, part >= min_part)
    return chosen


def _window(patch: Patch | None, extent: tuple[int, int, int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of a patch in its extent; an empty array if there is no patch."""
    if patch is None or extent == EMPTY:
        return np.zeros((0, 0), bool)
    window: np.ndarray = patch.window(extent).cpu().numpy()
    return window


def _valid_in_box(box: Float32[np.ndarray, " 4"], sample: Sample) -> Bool[np.ndarray, "h w"]:
    """Return which pixels of a box have data."""
    (x0, y0), (x1, y1) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    return sample.valid_in(Tile(int(x0), int(y0), int(x1), int(y1)))


def _boxes(sample: Sample) -> Boxes:
    """Return the boxes of a sample, or raise `ImageError` if it has none."""
    if sample.boxes is None:
        raise ImageError(
            f"{sample.image_id} has no boxes, which masks=box needs as prompts; choose an image "
            "set with boxes (such as +dataset=dota), or masks=auto"
        )
    return sample.boxes


def _centers(boxes: Boxes) -> Float32[np.ndarray, "N 2"]:
    """Return the centre (x, y) of each box, in pixels."""
    centers: np.ndarray = boxes.quad.reshape(-1, 4, 2).mean(1)
    return centers


def _fill(quad: Float32[np.ndarray, "4 2"], embedding: Embedding) -> Float32[np.ndarray, "y x"]:
    """Draw a quadrilateral as a mask prompt, which covers the padded input at low resolution."""
    side = embedding.low_res
    canvas = np.full((side, side), -MASK_PROMPT, np.float32)
    # OpenCV takes sixteenths of a pixel and puts the centre of the first pixel at 0, ALPS at 0.5.
    corners = np.round((quad * side / max(embedding.size) - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(canvas, corners, MASK_PROMPT, cv2.LINE_8, shift=4)
    return canvas
