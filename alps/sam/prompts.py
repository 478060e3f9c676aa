"""Prompts in pixels of an image, converted to the input of SAM."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from alps.errors import PromptError
from alps.sam.protocol import Embedding


def points_to_input(
    points: Float32[np.ndarray, "N 2"] | None, embedding: Embedding
) -> tuple[Float[Tensor, "N 1 2"], Integer[Tensor, "N 1"]] | None:
    """Return foreground points in pixels of the resized image, and their labels.

    Args:
        points: (x, y) in pixels of the image.
        embedding: embedding of the image; the result is on its device.

    Returns:
        The points and their labels, or None if there are no points.

    Raises:
        PromptError: a point lies outside the image.
    """
    if points is None:
        return None
    _check_inside(points, embedding.size)
    scale = _scale(embedding)
    xy = torch.as_tensor(points, device=scale.device) * scale
    return xy[:, None], torch.ones(len(points), 1, dtype=torch.int, device=scale.device)


def boxes_to_input(
    boxes: Float32[np.ndarray, "N 4"] | None, embedding: Embedding
) -> Float[Tensor, "N 4"] | None:
    """Return boxes (xyxy) in pixels of the resized image, or None if there are none.

    Raises:
        PromptError: a corner lies outside the image.
    """
    if boxes is None:
        return None
    _check_inside(boxes.reshape(-1, 2), embedding.size)
    scale = _scale(embedding)
    return torch.as_tensor(boxes, device=scale.device) * scale.repeat(2)


def _scale(embedding: Embedding) -> Float[Tensor, " 2"]:
    """Return the scales of x and y, which differ because resized sides are rounded."""
    (height, width), (h, w) = embedding.size, embedding.input_size
    return torch.tensor([w / width, h / height], device=embedding.features.device)


def _check_inside(xy: Float32[np.ndarray, "P 2"], size: tuple[int, int]) -> None:
    """Raise `PromptError` if a point (x, y) lies outside an image of ``size`` (H, W)."""
    height, width = size
    outside = ~((xy >= 0) & (xy <= (width, height))).all(axis=1)  # true for NaN too
    if outside.any():
        raise PromptError(
            f"a prompt lies outside the image: x y = {xy[outside][0].tolist()}, expected within "
            f"0..{width} and 0..{height}; clip prompts to the image"
        )
