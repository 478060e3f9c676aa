"""COCO run-length encoding (RLE) of whole images and of windows.

Masks of large images are mostly empty, so functions work on the runs or inside the bounding box of
a mask instead of on (N, H, W) stacks. The byte format is that of pycocotools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from pycocotools import mask as coco

from alps.structures.tiles import Tile


def encode(masks: Bool[np.ndarray, "N H W"]) -> tuple[bytes, ...]:
    """Encode whole-image masks as compressed COCO RLE."""
    if len(masks) == 0:
        return ()
    stack = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return tuple(rle["counts"] for rle in coco.encode(stack))


def encode_window(
    window: Bool[np.ndarray, "h w"], x0: int, y0: int, size: tuple[int, int]
) -> bytes:
    """Encode a mask that is empty outside one window.

    The cost grows with the window, not with the image.

    Args:
        window: the mask inside the window.
        x0: first column of the window in the image, px.
        y0: first row of the window in the image, px.
        size: (H, W) of the image, px.

    Returns:
        Compressed COCO RLE of the whole image.
    """
    height = size[0]
    h, w = window.shape
    # One empty row above and below each column: no run reaches from one column into the next.
    columns = np.zeros((w, h + 2), dtype=bool)
    columns[:, 1:-1] = window.T
    edges = np.flatnonzero(columns[:, 1:] != columns[:, :-1])
    column, row = np.divmod(edges, h + 1)
    position = (column + x0) * height + row + y0
    # In a window as high as the image, a run may end where the next run begins: join the two.
    joints = np.flatnonzero(position[1:] == position[:-1])
    return _compress(np.delete(position, np.concatenate([joints, joints + 1])), size)


def encode_quad(corners: Float32[np.ndarray, " 8"], size: tuple[int, int]) -> bytes:
    """Return a filled quadrilateral as compressed COCO RLE.

    A pixel is inside if its centre is inside by the even-odd rule. Polygons of pycocotools differ
    along the edges: in 3 % of the pixels of boxes with sides of 3 to 12 px.

    Args:
        corners: x0 y0 … x3 y3, px; they may lie outside the image.
        size: (H, W) of the image, px.
    """
    height, width = size
    x, y = corners.astype(np.float64).reshape(4, 2).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first, stop = np.ceil(np.array([x.min(), x.max()]) - 0.5).clip(0, width).astype(np.int64)
    columns = np.arange(first, stop)
    center = columns[:, None] + 0.5
    # Whether each column crosses each side; it crosses two or four.
    crossed = (x <= center) != (next_x <= center)
    slope = (next_y - y) / np.where(x == next_x, 1, next_x - x)
    edge_y = np.where(crossed, y + (center - x) * slope, height)
    rows = np.ceil(edge_y - 0.5).clip(0, height).astype(np.int64)
    position, number = np.unique(columns[:, None] * height + rows, return_counts=True)
    return _compress(position[number % 2 == 1], size)  # coinciding edges cancel in pairs


def decode(counts: bytes, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Decode a mask into an image of ``size`` (H, W), C order."""
    mask = coco.decode({"size": list(size), "counts": counts})
    return np.ascontiguousarray(mask, dtype=bool)


def runs(counts: bytes) -> Int64[np.ndarray, " R"]:
    """Return the run lengths in column-major order, background first, as COCO defines them.

    The format is a variable-length code. Each character stores 6 bits, offset by '0': 5 bits of a
    number, the low bits first, and 1 bit that is set if the number continues in the next character.
    From the fourth run on, the number is the difference to the run two positions earlier.
    """
    values, _ = _stored_numbers(counts)
    # Undo the differences: even and odd runs are two independent cumulative sums.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def find_problem(counts: bytes, size: tuple[int, int]) -> str:
    """Return why RLE is not a valid mask of ``size`` (H, W), or "" if it is valid.

    Call this before decoding RLE from an untrusted source, because pycocotools does not validate
    its input.
    """
    code = np.frombuffer(counts, dtype=np.uint8)
    if not len(code) or code.min() < 48 or code.max() > 111 or (code[-1] - 48) & 0x20:
        return "its counts are not a run-length code, or are truncated"
    ends = np.flatnonzero(((code - 48) & 0x20) == 0)
    if np.diff(ends, prepend=-1).max() > 7:
        return "a run in its counts is longer than any image"
    lengths = runs(counts)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        return (
            f"its counts hold {lengths.sum()} pixels, the image has {size[0]} x {size[1]} = "
            f"{size[0] * size[1]}"
        )
    return ""


def spans(counts: bytes) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " S"]]:
    """Return the foreground runs of a mask.

    Returns:
        Starts and ends (exclusive) of the runs, as column-major pixel indices.
    """
    ends = np.cumsum(runs(counts))
    starts, stops = ends[:-1:2], ends[1::2]
    not_empty = starts < stops
    return starts[not_empty], stops[not_empty]


def spans_of_all(
    counts: Sequence[bytes],
) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " S"], Int64[np.ndarray, " S"]]:
    """Return the foreground runs of several masks of one image, mask by mask.

    Returns:
        The index of the mask of each run, and starts and ends (exclusive) of the runs, as
        column-major pixel indices.
    """
    lengths, begins = _stored_numbers(b"".join(counts))
    masks = np.arange(len(counts))
    first = np.searchsorted(begins, np.cumsum([0, *map(len, counts)])[:-1])
    mask = np.repeat(masks, np.diff(first, append=len(lengths)))
    run = np.arange(len(lengths)) - first[mask]
    # Undo the differences: odd and even runs of a mask are two independent cumulative sums.
    for start in (1, 2):
        index = np.flatnonzero((run >= start) & (run % 2 == start % 2))
        sums = np.cumsum(lengths[index])
        before = sums - lengths[index]
        lengths[index] = sums - before[np.searchsorted(mask[index], masks)[mask[index]]]
    ends = np.cumsum(lengths)
    stops = ends - (ends - lengths)[first][mask]
    foreground = (run % 2 == 1) & (lengths > 0)
    stops = stops[foreground]
    return mask[foreground], stops - lengths[foreground], stops


def window(counts: bytes, height: int) -> tuple[int, int, Bool[np.ndarray, "w h"]]:
    """Decode a mask inside its tight bounding box.

    The cost grows with the box, not with the image.

    Args:
        counts: compressed COCO RLE of the mask.
        height: height of the image, px.

    Returns:
        x0 and y0 of the box, px, and the pixels inside the box, transposed: (w, h); (0, 0) if the
        mask is empty.
    """
    starts, stops = spans(counts)
    if not len(starts):
        return 0, 0, np.zeros((0, 0), dtype=bool)
    column, row = np.divmod(starts, height)
    lengths = stops - starts
    x0, x1 = int(column[0]), int(stops[-1] - 1) // height + 1
    y0, y1 = int(row.min()), int((row + lengths).max())
    if y1 > height:  # a run continues in the next column
        y0, y1 = 0, height
    h = y1 - y0
    first = (column - x0) * h + row - y0
    edges = np.stack([first, first + lengths], axis=1).ravel()
    pattern = np.arange(len(edges) + 1) % 2 == 1
    inside = np.repeat(pattern, np.diff(edges, prepend=0, append=(x1 - x0) * h))
    return x0, y0, inside.reshape(x1 - x0, h)


def decode_window(counts: bytes, height: int, tile: Tile) -> Bool[np.ndarray, "h w"]:
    """Decode the part of a mask inside ``tile``.

    Args:
        counts: compressed COCO RLE of the mask.
        height: height of the image, px.
        tile: the window to decode.

    Returns:
        An array of the size of the tile.
    """
    result = np.zeros(tile.size, dtype=bool)
    x, y, dense = window(counts, height)
    common = tile.intersect(Tile(x, y, x + dense.shape[0], y + dense.shape[1]))
    if common is not None:
        part = dense[common.x0 - x : common.x1 - x, common.y0 - y : common.y1 - y]
        rows = slice(common.y0 - tile.y0, common.y1 - tile.y0)
        result[rows, common.x0 - tile.x0 : common.x1 - tile.x0] = part.T
    return result


def crop(counts: bytes, height: int, tile: Tile) -> bytes:
    """Return the part of a mask inside ``tile`` as compressed COCO RLE of an image of its size.

    Args:
        counts: compressed COCO RLE of the mask.
        height: height of the image, px.
        tile: the window; it may extend beyond the image.
    """
    x, y, dense = window(counts, height)
    common = tile.intersect(Tile(x, y, x + dense.shape[0], y + dense.shape[1]))
    if common is None:
        return _compress(np.zeros(0, np.int64), tile.size)
    part = dense[common.x0 - x : common.x1 - x, common.y0 - y : common.y1 - y]
    return encode_window(part.T, common.x0 - tile.x0, common.y0 - tile.y0, tile.size)


def intersect(counts: bytes, where: Bool[np.ndarray, "H W"]) -> bytes:
    """Return the part of a mask inside ``where``; ``counts`` itself if this is the whole mask.

    The cost grows with the box of the mask, not with the image.
    """
    x, y, dense = window(counts, where.shape[0])
    part = dense & where[y : y + dense.shape[1], x : x + dense.shape[0]].T
    if np.array_equal(part, dense):
        return counts
    return encode_window(part.T, x, y, (where.shape[0], where.shape[1]))


def area(counts: Sequence[bytes], size: tuple[int, int]) -> Int64[np.ndarray, " N"]:
    """Return the number of pixels of each mask."""
    # One by one: with 256 masks at once, pycocotools 2.0.11 overflows under NumPy 2.
    return np.array([coco.area(rle) for rle in _objects(counts, size)], dtype=np.int64)


def to_xyxy(counts: Sequence[bytes], size: tuple[int, int]) -> Float[np.ndarray, "N 4"]:
    """Return the tight box of each mask in px, right and lower edges exclusive; zeros if empty."""
    boxes = np.asarray(coco.toBbox(_objects(counts, size)), dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def rotated_boxes(counts: Sequence[bytes], size: tuple[int, int]) -> Float32[np.ndarray, "N 8"]:
    """Return the corners x y of the smallest rotated rectangle around each mask, px.

    Pixels are squares: a mask of one row has height 1. An empty mask gives zeros.
    """
    rectangles = np.zeros((len(counts), 8), np.float32)
    for row, code in zip(rectangles, counts, strict=True):
        x0, y0, dense = window(code, size[0])
        if dense.size:
            x, y = np.nonzero(dense)
            # Only the first and the last pixel of a column can be on the convex hull.
            new_column = x[1:] != x[:-1]
            ends = np.append(True, new_column) | np.append(new_column, True)
            x, y = x[ends] + x0, y[ends] + y0
            corners = [np.stack([x + i, y + j], axis=1) for i in (0, 1) for j in (0, 1)]
            points = np.concatenate(corners).astype(np.float32)
            row[:] = cv2.boxPoints(cv2.minAreaRect(points)).ravel()
    return rectangles


def iou(
    a: Sequence[bytes], b: Sequence[bytes], size: tuple[int, int]
) -> Float[np.ndarray, "Na Nb"]:
    """Return the intersection over union of each pair of masks.

    Args:
        a: compressed COCO RLE of Na masks.
        b: compressed COCO RLE of Nb masks.
        size: (H, W) of the image, px.
    """
    if not a or not b:
        return np.zeros((len(a), len(b)))
    pairs = coco.iou(_objects(a, size), _objects(b, size), [False] * len(b))
    return np.asarray(pairs, dtype=np.float64)


def union(counts: Iterable[bytes], size: tuple[int, int]) -> bytes:
    """Return the union of masks; the union of no masks is empty.

    Runs are intervals on one axis, so one sweep over their sorted starts and stops suffices. The
    cost grows with the number of runs; successive merges would cost masks times pixels.
    """
    _, start, stop = spans_of_all([*counts])
    start, stop = np.sort(start), np.sort(stop)
    # There is a gap before start i if all i runs that began earlier have ended.
    opens = np.ones(len(start), dtype=bool)
    opens[1:] = start[1:] > stop[:-1]
    closes = np.roll(opens, -1)
    return _compress(np.stack([start[opens], stop[closes]], axis=1).ravel(), size)


def _objects(counts: Sequence[bytes], size: tuple[int, int]) -> list[dict[str, object]]:
    return [{"size": list(size), "counts": c} for c in counts]


def _stored_numbers(code: bytes) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]:
    """Return the numbers that compressed COCO RLE stores, and the position of each in the bytes."""
    digits = np.frombuffer(code, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((digits & 0x20) == 0)
    starts = np.concatenate([[0], ends + 1])[:-1]
    power = 5 * (np.arange(len(digits)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((digits & 0x1F) << power, starts)
    negative = (digits[ends] & 0x10) != 0
    values[negative] -= np.int64(1) << (5 * (ends - starts + 1)[negative])
    return values, starts


def _compress(position: Int64[np.ndarray, " _"], size: tuple[int, int]) -> bytes:
    """Encode the boundaries of runs (column-major pixel indices) as compressed COCO RLE."""
    height, width = size
    runs = np.diff(position, prepend=0, append=height * width)
    if runs[-1] == 0:
        runs = runs[:-1]
    return bytes(
        coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    )
