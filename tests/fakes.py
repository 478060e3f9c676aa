"""Stand-ins for the slow parts: the real interfaces, arithmetic instead of networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from alps.errors import ImageError
from alps.sam.protocol import Embedding, Prediction
from alps.structures.boxes import Boxes
from alps.structures.georeference import Georeference
from alps.structures.records import ImageRecord, Sample
from alps.structures.tiles import cut_tiles
from alps.structures.windows import raster_id, window_id


@dataclass
class ColorSegmenter:
    """A point's mask is what has the point's colour; the embedding is the image, made small.

    Deterministic and exact on flat colours; follows SAM's frames at a quarter of its size: long
    side to 256, stride 16 for the embedding, stride 4 for logits, zero padding on the right and
    below, 256 channels of which the first three are the colours.
    """

    embedded: int = 0
    points_per_batch: int = 32
    identity: Mapping[str, Any] = field(default_factory=lambda: {"sam.architecture": "color"})
    _cache: dict[bytes, Embedding] = field(default_factory=dict)

    def embed(self, image: np.ndarray) -> Embedding:
        key = image.tobytes() + str(image.shape).encode()
        if key not in self._cache:
            self.embedded += 1
            height, width = image.shape[:2]
            scale = 256 / max(height, width)
            h, w = int(height * scale + 0.5), int(width * scale + 0.5)
            pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
            resized = F.interpolate(pixels, (h, w), mode="nearest-exact")
            padded = F.pad(resized, (0, 256 - w, 0, 256 - h))
            small = F.interpolate(padded, (16, 16), mode="area")[0]
            features = torch.cat([small, torch.zeros(253, 16, 16)])
            self._cache[key] = Embedding(features, (height, width), (h, w))
            self._padded = {**getattr(self, "_padded", {}), id(self._cache[key]): padded[0]}
        return self._cache[key]

    def prefetch(self, images: list[np.ndarray]) -> None:
        for image in images:
            self.embed(image)

    def predict(
        self,
        embedding: Embedding,
        *,
        points: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        multimask_output: bool = True,
        pred_iou_thresh: float = -1.0,
        fast: bool = False,
        coarse: bool = False,
    ) -> Prediction:
        assert points is not None
        assert boxes is None
        padded = self._padded[id(embedding)]
        step = 8 if coarse else 4
        low = padded[:, step // 2 :: step, step // 2 :: step]
        logits = []
        for x, y in points * (max(embedding.input_size) / max(embedding.size)):
            color = padded[:, min(int(y), 255), min(int(x), 255)]
            same = (low - color[:, None, None]).abs().sum(0) < 1
            logits.append(torch.where(same, 20.0, -20.0))
        iou = torch.full((len(points),), 0.95)
        keep = iou > pred_iou_thresh
        prompt = torch.arange(len(points))[keep]
        return Prediction(torch.stack(logits)[keep], iou[keep], prompt, torch.zeros_like(prompt))


class Ellipses:
    """The mask of a box is the ellipse inside it, of a point a disc around it."""

    identity = {"sam.architecture": "ellipses"}  # noqa: RUF012 - read only
    points_per_batch = 4

    def __init__(self):
        self.asked = []

    def embed(self, image):
        height, width = image.shape[:2]
        scale = 1024 / max(height, width)
        used = int(height * scale + 0.5), int(width * scale + 0.5)
        return Embedding(torch.zeros(256, 64, 64), (height, width), used)

    def prefetch(self, images):
        self.prefetched = [image.shape[:2] for image in images]

    def predict(
        self, embedding, *, points=None, boxes=None, masks=None, multimask_output=True, fast=False
    ):
        self.asked.append((embedding.size, boxes, points, masks))
        assert not multimask_output
        scale = 256 / max(embedding.size)
        at = (torch.arange(256) + 0.5) / scale
        if boxes is None:
            boxes = np.concatenate([points - 8, points + 8], axis=1)
        logits = []
        for x0, y0, x1, y1 in boxes.tolist():
            x, y = (at - (x0 + x1) / 2) / (x1 - x0) * 2, (at - (y0 + y1) / 2) / (y1 - y0) * 2
            logits.append(8 * (1 - x[None] ** 2 - y[:, None] ** 2))
        n = torch.arange(len(boxes))
        return Prediction(torch.stack(logits), 0.9 - 0.01 * n, n, 0 * n)


class BoxSegmenter:
    """The mask of a box is the box; follows SAM's frames, as `ColorSegmenter` does."""

    identity: Mapping[str, Any] = MappingProxyType({"sam.architecture": "box"})
    points_per_batch = 32

    def embed(self, image: np.ndarray) -> Embedding:
        height, width = image.shape[:2]
        scale = 1024 / max(height, width)
        used = int(height * scale + 0.5), int(width * scale + 0.5)
        return Embedding(torch.zeros(256, 64, 64), (height, width), used)

    def prefetch(self, images: list[np.ndarray]) -> None:
        """Nothing is slow here."""

    def predict(
        self,
        embedding: Embedding,
        *,
        points: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        masks: np.ndarray | None = None,
        multimask_output: bool | None = True,
        pred_iou_thresh: float = -1.0,
        fast: bool = False,
        coarse: bool = False,
    ) -> Prediction:
        assert boxes is not None
        at = (torch.arange(256) + 0.5) * max(embedding.size) / 256
        logits = []
        for x0, y0, x1, y1 in boxes.tolist():
            inside = ((at >= y0) & (at < y1))[:, None] & ((at >= x0) & (at < x1))
            logits.append(torch.where(inside, 20.0, -20.0))
        n = torch.arange(len(boxes))
        return Prediction(torch.stack(logits), torch.full((len(boxes),), 0.9), n, 0 * n)


@dataclass
class ArrayImages:
    """Images held in memory; those whose value is a string cannot be read, for that reason."""

    arrays: dict[str, np.ndarray | str]
    name: str = "arrays"
    root: str = "memory"
    valid: dict[str, np.ndarray] = field(default_factory=dict)  # of images that hold no-data
    boxes: dict[str, Boxes] = field(default_factory=dict)

    def records(self) -> list[ImageRecord]:
        return [
            ImageRecord(i, f"{i}.png", bytes=len(a) if isinstance(a, str) else a.nbytes)
            for i, a in self.arrays.items()
        ]

    def read(self, record: ImageRecord) -> Sample:
        array = self.arrays[record.image_id]
        if isinstance(array, str):
            raise ImageError(f"{record.file_name}: {array}")
        valid, boxes = (by_id.get(record.image_id) for by_id in (self.valid, self.boxes))
        return Sample(record.image_id, array, boxes, valid=valid)


@dataclass
class ArrayRasters:
    """Rasters held in memory, which are read window by window."""

    arrays: dict[str, np.ndarray]
    window: int = 64
    overlap: int = 16
    name: str = "rasters"
    root: str = "memory"
    valid: dict[str, np.ndarray] = field(default_factory=dict)
    georeference: Georeference | None = None

    @property
    def view(self) -> Mapping[str, Any]:
        return {"rgb": [1, 2, 3]}

    def records(self) -> list[ImageRecord]:
        return [
            ImageRecord(window_id(name, tile), f"{name}.tif", bytes=array.nbytes, window=tile)
            for name, array in self.arrays.items()
            for tile in cut_tiles(array.shape[:2], self.window, self.overlap)
        ]

    def read(self, record: ImageRecord) -> Sample:
        tile, name = record.window, raster_id(record.image_id)
        inside = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
        valid = self.valid.get(name)
        return Sample(
            record.image_id,
            self.arrays[name][inside].copy(),
            valid=None if valid is None else valid[inside],
            window=tile,
            georeference=self.georeference,
        )


def flat_colors(height: int, width: int, seed: int) -> np.ndarray:
    """An image of a few rectangles of flat colour."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(0, 255, 3), dtype=np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, height - 16), rng.integers(0, width - 16)
        h, w = rng.integers(16, height // 2), rng.integers(16, width // 2)
        image[y : y + h, x : x + w] = rng.integers(0, 255, 3)
    return image
