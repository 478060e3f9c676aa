"""Pictures for the report: masks and classes drawn at the size they are shown, cut-outs, encoding.

Nothing here draws at the size of the image: a mask is sampled where a picture has a pixel.
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

LONG_SIDE = 640  # pixels of a picture; shown at half of that, so that it is sharp on any screen
ENLARGE = 4  # at most, for small images: outlines stay thin
CUTOUT = 128  # pixels of a cut-out's long side
WRONG = (232, 48, 32)
#: Squares of pixels that are no data, 8 px: of two colours that no class has.
NODATA = ((74, 82, 122), (60, 67, 102))
FOG = 170  # gray level of what lies around a cut-out: neither dark nor bright masks vanish in it


def picture_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) at which an image of ``size`` (H, W) is shown."""
    scale = min(LONG_SIDE / max(size), ENLARGE)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def shrink(image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """The image at ``size`` (h, w), enlarged where that is larger."""
    smaller = size[0] <= image.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=how).astype(np.uint8, copy=False)


def top_masks(masks: Masks, size: tuple[int, int]) -> Int32[np.ndarray, "h w"]:
    """The mask on top at every pixel of a picture of ``size`` (h, w), -1 where there is none.

    The overlap rule is that of `alps.structures.paint.paint`.
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
    """An index map at ``size`` (h, w): the class at the centre of each pixel of the picture."""
    ys, xs = _centers(classes.shape[0], size[0]), _centers(classes.shape[1], size[1])
    picture: np.ndarray = classes[ys[:, None], xs].astype(np.int32)
    return picture


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"], top: Int32[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Each mask in a colour of its own with an outline, over the dimmed image."""
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
    """The index map in the colours of its classes; hatched where no mask with a class lies."""
    classes = np.append(category_id, -1)[top]
    picture = _hatch(top.shape)
    picture[classes >= 0] = np.array(colors, np.uint8)[classes[classes >= 0]]
    return picture


def draw_errors(
    image: UInt8[np.ndarray, "h w 3"],
    classes: Int32[np.ndarray, "h w"],
    target: Int32[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Wrong classes in red over the image in gray; hatched without a label, black without truth.

    Args:
        image: what the two maps are of.
        classes: labels; -1 where there is none.
        target: the truth; -1 where there is none.
    """
    gray = image.mean(axis=2, keepdims=True)
    picture: np.ndarray = np.repeat(90 + 0.5 * gray, 3, axis=2)
    wrong = classes != target
    picture[wrong] = (0.4 * gray + 0.6 * np.array(WRONG))[wrong]
    picture = picture.astype(np.uint8)
    picture[classes < 0] = _hatch(classes.shape)[classes < 0]
    picture[target < 0] = 0
    return picture


def draw_nodata(
    picture: UInt8[np.ndarray, "h w 3"], valid: Bool[np.ndarray, "h w"] | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the picture with squares where there is no data, see `shrink_valid`."""
    if valid is None:
        return picture
    y, x = np.indices(valid.shape) // 8
    squares = np.array(NODATA, np.uint8)[(x + y) % 2]
    return np.where(valid[..., None], picture, squares)


def shrink_valid(
    valid: Bool[np.ndarray, "H W"] | None, size: tuple[int, int]
) -> Bool[np.ndarray, "h w"] | None:
    """Return which pixels of a picture of ``size`` (h, w) show data, by their centres."""
    if valid is None:
        return None
    ys, xs = _centers(valid.shape[0], size[0]), _centers(valid.shape[1], size[1])
    picture: np.ndarray = valid[ys[:, None], xs]
    return picture


def cut_out(
    image: UInt8[np.ndarray, "H W 3"], counts: bytes, xyxy: Float32[np.ndarray, " 4"]
) -> UInt8[np.ndarray, "h w 3"]:
    """One mask with what surrounds it, which is dimmed; square unless the image is too narrow."""
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
    """A WebP data URI in the best quality that fits, half as large where none does.

    Args:
        picture: RGB or RGBA.
        max_bytes: before base64, which adds a third.
        flat: areas of one colour with sharp edges; lossless where that fits.
    """
    for quality in (100, 85, 60, 30)[0 if flat else 1 :]:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "WEBP", quality=quality, lossless=quality == 100)
        if buffer.tell() <= max_bytes:
            return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    half = (-(-picture.shape[0] // 2), -(-picture.shape[1] // 2))
    return data_uri(shrink(picture, half), max_bytes)


def around(xyxy: Float32[np.ndarray, " 4"], size: tuple[int, int]) -> Tile:
    """A square around a box with a quarter of its side as context, moved into the image."""
    x0, y0, x1, y1 = (float(v) for v in xyxy)
    side = int(max(1.5 * max(x1 - x0, y1 - y0), 32))

    def span(center: float, length: int) -> tuple[int, int]:
        start = min(max(int(center - side / 2), 0), max(length - side, 0))
        return start, min(start + side, length)

    (left, right), (upper, lower) = span((x0 + x1) / 2, size[1]), span((y0 + y1) / 2, size[0])
    return Tile(left, upper, right, lower)


def _centers(n: int, m: int) -> Int64[np.ndarray, " m"]:
    """Which of ``n`` pixels the centres of ``m`` lie in that take up the same length."""
    return (np.arange(m) * 2 + 1) * n // (2 * m)


def _hatch(size: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"]:
    y, x = np.indices(size)
    hatch = np.where((x + y) % 12 < 3, 108, 78).astype(np.uint8)
    return np.repeat(hatch[..., None], 3, axis=2)


def _edges(values: Int32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose left, right, upper or lower neighbour has another value."""
    edges = np.zeros(values.shape, dtype=bool)
    down, right = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges
