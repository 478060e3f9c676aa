"""The masks of one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

from alps.structures import rle
from alps.structures.arrays import RowIndex, check_array, select_rows
from alps.structures.boxes import Boxes
from alps.structures.records import COLUMNS
from alps.structures.supervision import to_detections


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """N masks of one image, run-length encoded, with SA-1B's field names (arXiv 2304.02643).

    ``masks[0]``, ``masks[2:5]`` and ``masks[masks.area > 100]`` return `Masks` with the
    selected rows, and iteration yields `Masks` of length 1.

    >>> array = np.zeros((2, 4, 6), dtype=bool)
    >>> array[0, 1:3, 1:4] = array[1, :, 5] = True
    >>> masks = Masks.from_array(array)
    >>> masks
    Masks(n=2, size=(4, 6), area=4..6)
    >>> masks[masks.area > 5].xyxy
    array([[1., 1., 4., 3.]], dtype=float32)
    >>> [int(mask.to_array().sum()) for mask in masks]
    [6, 4]

    Raises:
        ValueError: a field has the wrong dtype or shape, or an area is negative.
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
                "Masks.counts must be compressed COCO RLE as bytes (alps.structures.rle.encode)"
            )
        for name, dtype, row in COLUMNS:
            check_array(f"Masks.{name}", getattr(self, name), dtype, (n, *row))
        if n and self.area.min() < 0:
            raise ValueError(f"Masks.area contains {self.area.min()}, expected >= 0 pixels")
        if self.boxes is not None and len(self.boxes) != n:
            raise ValueError(f"Masks.boxes has {len(self.boxes)} rows, counts has {n}")

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[Masks]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: RowIndex) -> Masks:
        rows = select_rows(index, len(self), "masks")
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self)[2:-1]}
        boxes = None if self.boxes is None else self.boxes[rows]
        return Masks(self.size, tuple(self.counts[i] for i in rows), **columns, boxes=boxes)

    def __repr__(self) -> str:
        area = ""
        if len(self):
            low, high = self.area.min(), self.area.max()
            area = f", area={low}" if low == high else f", area={low}..{high}"
        boxes = "" if self.boxes is None else f", boxes={self.boxes!r}"
        return f"Masks(n={len(self)}, size={self.size}{area}{boxes})"

    def to_array(self) -> Bool[np.ndarray, "N H W"]:
        """Return all masks as one array, which takes N × H × W bytes.

        Inverse of `from_array`; scores and prompts are not part of the array.
        """
        if not len(self):
            return np.zeros((0, *self.size), dtype=bool)
        return np.stack([rle.decode(c, self.size) for c in self.counts])

    def to_supervision(self, category_id: Int[np.ndarray, " N"] | None = None) -> Any:
        """Return ``supervision.Detections``, for its annotators, trackers and metrics.

        ``confidence`` is ``predicted_iou``, or None if no mask has a value; ``data`` contains
        ``area`` and ``stability_score``.

        Args:
            category_id: class of each mask, such as `LabelStore.labels` returns; None: the class of
                its prompt box, or no class without prompt boxes.

        Raises:
            MissingPackage: supervision is not installed.
            ValueError: ``category_id`` does not have one value per mask.
        """
        if category_id is None and self.boxes is not None:
            category_id = self.boxes.category_id
        if category_id is not None and len(category_id) != len(self):
            raise ValueError(f"category_id has {len(category_id)} values for {len(self)} masks")
        return to_detections(
            xyxy=self.xyxy,
            mask=self.to_array(),
            class_id=category_id,
            confidence=self.predicted_iou,
            tracker_id=None if self.boxes is None else self.boxes.track_id,
            data={"area": self.area, "stability_score": self.stability_score},
        )

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
        """Return masks from COCO RLE; computes bounding boxes and areas, missing scores are NaN.

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
    def from_array(cls, masks: Bool[np.ndarray, "N H W"]) -> Masks:
        """Create masks from a boolean array (N, H, W); scores and prompts are NaN."""
        return cls.from_counts(rle.encode(masks), (masks.shape[1], masks.shape[2]))

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Masks:
        """Return `Masks` of length 0 for an image of ``size`` (H, W), px."""
        return cls.from_counts((), size)

    @classmethod
    def cat(cls, parts: Sequence[Masks]) -> Masks:
        """Return the concatenation of `Masks` of one image.

        Raises:
            ValueError: their sizes differ, or only some of them have boxes.
        """
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"cannot join masks of {len(sizes)} image sizes: {sorted(sizes)}")
        columns = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)[2:-1]
        }
        counts = tuple(c for part in parts for c in part.counts)
        boxes = [part.boxes for part in parts if part.boxes is not None]
        return cls(sizes.pop(), counts, **columns, boxes=Boxes.cat(boxes) if boxes else None)
