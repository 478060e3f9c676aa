"""Draw boxes over the masks that they prompted."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from alps.report.counts.boxes import prompt_quads
from alps.structures import rle
from alps.structures.masks import Masks

PROMPT = (255, 255, 255)
IGNORED = (190, 190, 190)
AROUND = (255, 214, 10)
DASH = 3  # length of a dash and of a gap, in pixels
OPACITY = 0.6  # opacity of the lines, so that masks are visible under hundreds of lines
FINE = 4  # number of fractional bits of OpenCV's coordinates


def draw_boxes(picture: UInt8[np.ndarray, "h w 3"], masks: Masks, prompt: str) -> None:
    """Draw the prompt box of each mask, and the rotated box around it, into a picture in place.

    The prompt boxes of ignored masks are dashed, and their rotated boxes are not drawn.

    Args:
        picture: an RGB picture of the whole image, at any size.
        masks: the masks, in the pixels of the image.
        prompt: one of `alps.masks.limits.PROMPTS`.
    """
    if masks.boxes is None:
        return
    original = picture.copy()
    around = masks[~masks.boxes.ignore & (masks.area > 0)]
    for quad in _scale(rle.rotated_boxes(around.counts, around.size), masks.size, picture):
        _draw(picture, quad, AROUND)
    prompts = _scale(prompt_quads(masks.boxes, prompt, masks.size), masks.size, picture)
    for quad, ignored in zip(prompts, masks.boxes.ignore, strict=True):
        if not ignored:
            _draw(picture, quad, PROMPT)
            continue
        for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
            n = max(int(np.hypot(*(b - a)) / DASH), 1)
            for start in range(0, n, 2):
                ends = a + (b - a) * np.array([[start], [min(start + 1, n)]]) / n
                _draw(picture, ends, IGNORED)
    picture[:] = cv2.addWeighted(picture, OPACITY, original, 1 - OPACITY, 0)


def _scale(
    quads: Float[np.ndarray, "N 8"], size: tuple[int, int], picture: UInt8[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "N 4 2"]:
    """Return corners in pixels of the picture; as in OpenCV, 0 is the centre of the first pixel."""
    scale = np.array([picture.shape[1] / size[1], picture.shape[0] / size[0]])
    corners: np.ndarray = quads.reshape(-1, 4, 2) * scale - 0.5
    return corners


def _draw(
    picture: UInt8[np.ndarray, "h w 3"],
    points: Float[np.ndarray, "P 2"],
    color: tuple[int, int, int],
) -> None:
    """Draw a closed line, one pixel wide."""
    fine = np.round(points * (1 << FINE)).astype(np.int32)
    cv2.polylines(picture, [fine], True, color, 1, cv2.LINE_AA, FINE)
