"""Draw and encode the pictures of the reports: masks, classes and cut-outs.

Masks are sampled at the pixels of the picture, which is usually smaller than the image.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64, Integer, UInt8
from PIL import Image

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.palette import distinct_colors
from alps.structures.tiles import Tile

LONG_SIDE = 640  # longer side of a picture in pixels; pages show it at half that size
ENLARGE = 4  # maximum scale for small images
CUTOUT = 128  # longer side of a cut-out in pixels
WRONG = (232, 48, 32)
#: RGB of the 8 px squares of a chequerboard over no-data pixels; no class has these colours.
NODATA = ((74, 82, 122), (60, 67, 102))
FOG = 170  # gray level around a mask in a cut-out, which contrasts with dark and bright masks


def picture_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) in pixels at which an image of ``size`` (H, W) is shown."""
    scale = min(LONG_SIDE / max(size), ENLARGE)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def shrink(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize an image to ``size`` (h, w), which may also be larger than the image."""
    is_smaller = size[0] <= image.shape[0]
    method = cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=method).astype(np.uint8, copy=False)


def top_masks(masks: Masks, size: tuple[int, int]) -> Int32[np.ndarray, "h w"]:
    """Return the topmost mask at each pixel of a picture of ``size`` (h, w), -1 outside all masks.

    Masks overlap as in `alps.structures.paint.paint`.
    """
    ys, xs = _centers(masks.size[0], size[0]), _centers(masks.size[1], size[1])
    by_column = np.full(size[::-1], -1, np.int32)
    for i in np.argsort(-masks.area, kind="stable"):
        x, y, window = rle.window(masks.counts[i], masks.size[0])
        across = slice(*np.searchsorted(xs, [x, x + window.shape[0]]))
        down = slice(*np.searchsorted(ys, [y, y + window.shape[1]]))
        by_column[across, down][window[xs[across] - x][:, ys[down] - y]] = i
    return np.ascontiguousarray(by_column.T)


def shrink_classes(
    classes: Integer[np.ndarray, "H W"], size: tuple[int, int]
) -> Int32[np.ndarray, "h w"]:
    """Return the class at the centre of each pixel of a picture of ``size`` (h, w)."""
    ys, xs = _centers(classes.shape[0], size[0]), _centers(classes.shape[1], size[1])
    picture: np.ndarray = classes[ys[:, None], xs].astype(np.int32)
    return picture


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"], top: Int32[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw each mask in a distinct colour with an outline, over the dimmed image."""
    colors = np.array([*distinct_colors(int(top.max()) + 1), (0, 0, 0)], np.float32)
    gray = image.mean(axis=2, keepdims=True)
    dimmed = 0.35 * (0.4 * image + 0.6 * gray)
    filled = 0.55 * image + 0.45 * colors[top]
    picture: np.ndarray = np.where((top >= 0)[..., None], filled, dimmed)
    line = _edges(top) & (top >= 0)
    picture[line] = 0.35 * 255 + 0.65 * colors[top[line]]
    return picture.astype(np.uint8)


def draw_classes(
    top: Int32[np.ndarray, "h w"],
    category_id: Int[np.ndarray, " N"],
    colors: Sequence[tuple[int, int, int]],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw an index map in the colours of its classes, hatched where there is no class.

    Args:
        top: the mask at each pixel; -1 outside all masks.
        category_id: the class of each mask; -1 for none.
        colors: the RGB colour of each class.

    Returns:
        An RGB picture.
    """
    classes = np.append(category_id, -1)[top]
    picture = hatch(top.shape)
    picture[classes >= 0] = np.array(colors, np.uint8)[classes[classes >= 0]]
    return picture


def draw_errors(
    image: UInt8[np.ndarray, "h w 3"],
    classes: Int32[np.ndarray, "h w"],
    target: Int32[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw wrong classes in red over the gray image.

    Pixels without a label are hatched, pixels without ground truth are black.

    Args:
        image: the RGB image.
        classes: the class of each pixel in the labels; -1 without a label.
        target: the class of each pixel in the ground truth; -1 without ground truth.

    Returns:
        An RGB picture.
    """
    gray = image.mean(axis=2, keepdims=True)
    picture: np.ndarray = np.repeat(90 + 0.5 * gray, 3, axis=2)
    wrong = classes != target
    picture[wrong] = (0.4 * gray + 0.6 * np.array(WRONG))[wrong]
    picture = picture.astype(np.uint8)
    picture[classes < 0] = hatch(classes.shape)[classes < 0]
    picture[target < 0] = 0
    return picture


def draw_nodata(
    picture: UInt8[np.ndarray, "h w 3"], valid: Bool[np.ndarray, "h w"] | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the picture with a chequerboard over its no-data pixels (see `shrink_valid`)."""
    if valid is None:
        return picture
    y, x = np.indices(valid.shape) // 8
    squares = np.array(NODATA, np.uint8)[(x + y) % 2]
    return np.where(valid[..., None], picture, squares)


def shrink_valid(
    valid: Bool[np.ndarray, "H W"] | None, size: tuple[int, int]
) -> Bool[np.ndarray, "h w"] | None:
    """Return the pixels of a picture of ``size`` (h, w) whose centres show data."""
    if valid is None:
        return None
    ys, xs = _centers(valid.shape[0], size[0]), _centers(valid.shape[1], size[1])
    picture: np.ndarray = valid[ys[:, None], xs]
    return picture


def cut_out(
    image: UInt8[np.ndarray, "H W 3"], counts: bytes, xyxy: Float32[np.ndarray, " 4"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Cut a mask out of its image, with dimmed surroundings.

    Args:
        image: the RGB image.
        counts: the mask as COCO's compressed RLE.
        xyxy: the box of the mask, in pixels.

    Returns:
        An RGB picture, `CUTOUT` pixels square; one side is shorter if the image is too small.
    """
    tile = around(xyxy, (image.shape[0], image.shape[1]))
    height, width = tile.size
    scale = CUTOUT / max(height, width)
    size = (max(round(height * scale), 1), max(round(width * scale), 1))
    window = np.ascontiguousarray(image[tile.y0 : tile.y1, tile.x0 : tile.x1])
    picture = shrink(window, size)
    mask = rle.decode_window(counts, image.shape[0], tile).astype(np.float32)
    inside = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
    gray = picture.mean(axis=2, keepdims=True)
    drawn = np.where(inside[..., None], picture, 0.35 * gray + 0.65 * FOG)
    drawn[_edges(inside.astype(np.int32)) & ~inside] = 255
    return drawn.astype(np.uint8)


def data_uri(picture: UInt8[np.ndarray, "h w c"], max_bytes: int, *, flat: bool = False) -> str:
    """Encode a picture as a WebP data URI, in the best quality that fits into ``max_bytes``.

    If no quality fits, width and height of the picture are halved.

    Args:
        picture: an RGB or RGBA picture.
        max_bytes: maximum size in bytes before base64 encoding, which adds a third.
        flat: whether the picture has areas of one colour with sharp edges; lossless encoding is
            then tried first.

    Returns:
        The data URI, for the ``src`` of an image.
    """
    for quality in (100, 85, 60, 30)[0 if flat else 1 :]:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "WEBP", quality=quality, lossless=quality == 100)
        if buffer.tell() <= max_bytes:
            return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    half = (-(-picture.shape[0] // 2), -(-picture.shape[1] // 2))
    return data_uri(shrink(picture, half), max_bytes)


def around(xyxy: Float32[np.ndarray, " 4"], size: tuple[int, int]) -> Tile:
    """Return a square around a box with a margin of a quarter of its side, moved into the image."""
    x0, y0, x1, y1 = (float(v) for v in xyxy)
    side = int(max(1.5 * max(x1 - x0, y1 - y0), 32))

    def span(center: float, length: int) -> tuple[int, int]:
        start = min(max(int(center - side / 2), 0), max(length - side, 0))
        return start, min(start + side, length)

    (left, right), (upper, lower) = span((x0 + x1) / 2, size[1]), span((y0 + y1) / 2, size[0])
    return Tile(left, upper, right, lower)


def _centers(n: int, m: int) -> Int64[np.ndarray, " m"]:
    """Return the indices of the ``n`` pixels at the centres of ``m`` pixels of the same extent."""
    return (np.arange(m) * 2 + 1) * n // (2 * m)


def hatch(size: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture of ``size`` (H, W) of diagonal lines, which means: no class."""
    y, x = np.indices(size)
    lines = np.where((x + y) % 12 < 3, 108, 78).astype(np.uint8)
    return np.repeat(lines[..., None], 3, axis=2)


def _edges(values: Int32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose value differs from a left, right, upper or lower neighbour."""
    edges = np.zeros(values.shape, dtype=bool)
    down, right = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges
