"""The masks of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

from alps.structures import rle
from alps.structures.arrays import check_array
from alps.structures.boxes import Boxes
from alps.structures.records import COLUMNS


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """N masks of one image, run-length encoded, with SA-1B's field names (arXiv 2304.02643).

    Raises:
        ValueError: a column has another type or shape, or an area is negative.
    """

    size: tuple[int, int]  # (H, W) of the image
    counts: tuple[bytes, ...]  # compressed COCO RLE
    xyxy: Float32[np.ndarray, "N 4"]  # pixels, right and lower edges exclusive
    area: Int64[np.ndarray, " N"]  # pixels
    predicted_iou: Float32[np.ndarray, " N"]
    stability_score: Float32[np.ndarray, " N"]
    point_coords: Float32[np.ndarray, "N 2"]  # the prompt, x y in pixels
    boxes: Boxes | None = None  # box prompt of each mask

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 1 or width < 1:
            raise ValueError(f"Masks.size is {self.size}, expected (height, width) in pixels")
        n = len(self.counts)
        if not all(isinstance(counts, bytes) for counts in self.counts):
            raise ValueError(
                "Masks.counts are compressed run-length codes as bytes; encode with rle"
            )
        for name, dtype, row in COLUMNS:
            check_array(f"Masks.{name}", getattr(self, name), dtype, (n, *row))
        if n and self.area.min() < 0:
            raise ValueError(f"Masks.area holds {self.area.min()}, expected pixels, 0 or more")
        if self.boxes is not None and len(self.boxes) != n:
            raise ValueError(f"Masks.boxes has {len(self.boxes)} rows, counts has {n}")

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, keep: Bool[np.ndarray, " N"] | Int[np.ndarray, " M"]) -> Masks:
        index = np.arange(len(self))[keep]
        rest = {f.name: getattr(self, f.name)[index] for f in fields(self)[2:-1]}
        boxes = None if self.boxes is None else self.boxes[index]
        return Masks(self.size, tuple(self.counts[i] for i in index), **rest, boxes=boxes)

    def dense(self) -> Bool[np.ndarray, "N H W"]:
        """Decode all masks into one array; for small images and tests."""
        if not len(self):
            return np.zeros((0, *self.size), dtype=bool)
        return np.stack([rle.decode(c, self.size) for c in self.counts])

    @classmethod
    def from_counts(
        cls,
        counts: Sequence[bytes],
        size: tuple[int, int],
        *,
        predicted_iou: Float[np.ndarray, " N"] | None = None,
        stability_score: Float[np.ndarray, " N"] | None = None,
        point_coords: Float[np.ndarray, "N 2"] | None = None,
        boxes: Boxes | None = None,
    ) -> Masks:
        """Create masks from COCO RLE; boxes and areas are computed, missing scores are NaN.

        Args:
            counts: compressed COCO RLE of each mask.
            size: (H, W) of the image, px.
            predicted_iou: IoU predicted by SAM, per mask.
            stability_score: SAM's stability score, per mask.
            point_coords: point prompt of each mask, x y in pixels.
            boxes: box prompt of each mask.
        """
        n = len(counts)

        def column(values: np.ndarray | None, *shape: int) -> np.ndarray:
            return (
                np.full((n, *shape), np.nan, np.float32)
                if values is None
                else (np.asarray(values, dtype=np.float32).reshape(n, *shape))
            )

        return cls(
            size=size,
            counts=tuple(counts),
            xyxy=rle.to_xyxy(counts, size),
            area=rle.area(counts, size),
            predicted_iou=column(predicted_iou),
            stability_score=column(stability_score),
            point_coords=column(point_coords, 2),
            boxes=boxes,
        )

    @classmethod
    def from_dense(cls, masks: Bool[np.ndarray, "N H W"]) -> Masks:
        """Create masks from a boolean array; scores and prompts are NaN."""
        return cls.from_counts(rle.encode(masks), (masks.shape[1], masks.shape[2]))

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Masks:
        """Return zero masks of an image of ``size`` (H, W), which is a valid result."""
        return cls.from_counts((), size)

    @classmethod
    def cat(cls, parts: Sequence[Masks]) -> Masks:
        """Concatenate masks of one image; all parts need the same size, and boxes or none."""
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"cannot join masks of {len(sizes)} image sizes: {sorted(sizes)}")
        rest = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)[2:-1]
        }
        counts = tuple(c for part in parts for c in part.counts)
        boxes = [part.boxes for part in parts if part.boxes is not None]
        return cls(sizes.pop(), counts, **rest, boxes=Boxes.cat(boxes) if boxes else None)
