"""Pictures that show images, labels and predictions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from alps.structures.records import Category

HEADINGS = ("image", "label", "prediction")
CELL = 320  # long side of a picture, in pixels
GAP = 12
HEADING = 28
LEGEND = 24  # height of a legend line, in pixels
UNLABELLED = 92  # gray level
#: Long side of the stored maps, in pixels: 4 × that of the picture, for smooth edges.
STORED = 4 * CELL


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow:
    """One row of a sheet: an image, its label and its prediction."""

    image: UInt8[np.ndarray, "H W 3"]
    target: Integer[np.ndarray, "H W"]
    prediction: Integer[np.ndarray, "H W"]


def storage_step(size: Sequence[int]) -> int:
    """Return the step between the rows and columns to store of an image of ``size`` (H, W)."""
    return -(-max(size) // STORED)


def sheet(
    rows: Sequence[PictureRow],
    categories: Sequence[Category],
) -> Image.Image:
    """Return a picture of a row per image, and a legend with the most frequent classes first.

    Unlabelled pixels are gray.
    """
    cells = [
        [_fit(picture) for picture in (row.image, *(_paint(m, categories) for m in _maps(row)))]
        for row in rows
    ]
    names = _legend(rows, categories)
    width = GAP + len(HEADINGS) * (CELL + GAP)
    per_line = max(1, (width - 2 * GAP) // 150)
    heights = [max(cell.shape[0] for cell in row) for row in cells]
    lines = -(-len(names) // per_line)
    height = HEADING + sum(h + GAP for h in heights) + lines * LEGEND + GAP

    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(15)
    for i, heading in enumerate(HEADINGS):
        draw.text((GAP + i * (CELL + GAP), 6), heading, "black", font)
    y = HEADING
    for row, row_height in zip(cells, heights, strict=True):
        for i, cell in enumerate(row):
            canvas.paste(Image.fromarray(cell), (GAP + i * (CELL + GAP), y))
        y += row_height + GAP
    small = ImageFont.load_default(13)
    for i, (name, color) in enumerate(names):
        left = GAP + (i % per_line) * ((width - 2 * GAP) // per_line)
        top = y + i // per_line * LEGEND
        draw.rectangle((left, top + 2, left + 14, top + 16), color, "black")
        draw.text((left + 20, top), name[:18], "black", small)
    return canvas


def _maps(row: PictureRow) -> tuple[Integer[np.ndarray, "H W"], Integer[np.ndarray, "H W"]]:
    return row.target, row.prediction


def _paint(
    labels: Integer[np.ndarray, "H W"], categories: Sequence[Category]
) -> UInt8[np.ndarray, "H W 3"]:
    table = np.array([*(c.color for c in categories), (UNLABELLED,) * 3], np.uint8)
    picture: np.ndarray = table[np.minimum(labels.astype(np.int64), len(categories))]
    return picture


def _fit(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    scale = CELL / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=interpolation).astype(np.uint8, copy=False)


def _legend(
    rows: Sequence[PictureRow], categories: Sequence[Category]
) -> list[tuple[str, tuple[int, int, int]]]:
    counts = np.zeros(len(categories), np.int64)
    for row in rows:
        for labels in _maps(row):
            classes = labels[labels < len(categories)]
            counts += np.bincount(classes.ravel(), minlength=len(categories))
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    return [(categories[i].name, categories[i].color) for i in order]
