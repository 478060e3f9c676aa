"""COCO run-length encoding, whole images and windows of them.

Masks of large images are mostly empty, so everything here works on the runs or inside the box of
a mask; no function builds an (N, H, W) stack of whole images. The byte format is pycocotools', and
the tests compare with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from pycocotools import mask as coco

from alps.structures.tiles import Tile


def encode(masks: Bool[np.ndarray, "N H W"]) -> tuple[bytes, ...]:
    """Compressed COCO counts of whole-image masks."""
    if len(masks) == 0:
        return ()
    stack = np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8)
    return tuple(rle["counts"] for rle in coco.encode(stack))


def encode_window(
    window: Bool[np.ndarray, "h w"], x0: int, y0: int, size: tuple[int, int]
) -> bytes:
    """Compressed COCO counts of an image of ``size`` (H, W) that is empty outside one window.

    The cost grows with the window, not with the image.
    """
    height = size[0]
    h, w = window.shape
    # One empty row above and below each column: no run reaches from one column into the next.
    columns = np.zeros((w, h + 2), dtype=bool)
    columns[:, 1:-1] = window.T
    edges = np.flatnonzero(columns[:, 1:] != columns[:, :-1])
    column, row = np.divmod(edges, h + 1)
    position = (column + x0) * height + row + y0
    # Where the window is as high as the image a run may end where the next begins: join the two.
    same = np.flatnonzero(position[1:] == position[:-1])
    return _compress(np.delete(position, np.concatenate([same, same + 1])), size)


def encode_quad(corners: Float32[np.ndarray, " 8"], size: tuple[int, int]) -> bytes:
    """Compressed COCO counts of a filled quadrilateral in an image of ``size`` (H, W).

    A pixel is in it where its centre is, by the even-odd rule. pycocotools' own polygons differ at
    the rim: in 3 of 100 pixels of boxes with sides of 3 to 12.

    Args:
        corners: x0 y0 … x3 y3, px; they may lie beyond the image.
        size: of the image.
    """
    height, width = size
    x, y = corners.astype(np.float64).reshape(4, 2).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first, stop = np.ceil(np.array([x.min(), x.max()]) - 0.5).clip(0, width).astype(np.int64)
    columns = np.arange(first, stop)
    center = columns[:, None] + 0.5
    crossed = (x <= center) != (next_x <= center)  # of each column by each side: two or all four
    slope = (next_y - y) / np.where(x == next_x, 1, next_x - x)
    at = np.where(crossed, y + (center - x) * slope, height)
    rows = np.ceil(at - 0.5).clip(0, height).astype(np.int64)
    position, times = np.unique(columns[:, None] * height + rows, return_counts=True)
    return _compress(position[times % 2 == 1], size)  # an edge and another one there undo it


def decode(counts: bytes, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The whole mask; C order."""
    mask = coco.decode({"size": list(size), "counts": counts})
    return np.ascontiguousarray(mask, dtype=bool)


def runs(counts: bytes) -> Int64[np.ndarray, " R"]:
    """Run lengths in column-major order, the first one empty space, as COCO defines them.

    The format is a variable-length code: 6 bits a character above '0', of which 5 hold data (low
    bits first) and one says that more follow; from the fourth run on, the difference to the run
    before the last is stored.
    """
    code = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    last = (code & 0x20) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((code & 0x1F) << (5 * place), starts)
    negative = (code[ends] & 0x10) != 0
    values[negative] -= np.int64(1) << (5 * (ends - starts + 1)[negative])
    # Undo the differences: even and odd runs are two independent cumulative sums.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def find_problem(counts: bytes, size: tuple[int, int]) -> str:
    """Why counts of unknown origin are no mask of an image of ``size`` (H, W); "" if they are one.

    To be asked before anything else decodes them: pycocotools trusts what it is given.
    """
    code = np.frombuffer(counts, dtype=np.uint8)
    if not len(code) or code.min() < 48 or code.max() > 111 or (code[-1] - 48) & 0x20:
        return "its counts are no run-length code, or are cut short"
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
    """Where the runs of a mask begin, and where they end (exclusive), in column-major order."""
    ends = np.cumsum(runs(counts))
    starts, stops = ends[:-1:2], ends[1::2]
    some = starts < stops
    return starts[some], stops[some]


def window(counts: bytes, height: int) -> tuple[int, int, Bool[np.ndarray, "w h"]]:
    """A mask inside its tight box.

    The cost grows with the box, not with the image.

    Args:
        counts: the mask.
        height: of the image, px.

    Returns:
        The box's first column and first row, and the box transposed: a row for each of its
        columns. An empty mask gives no columns.
    """
    starts, stops = spans(counts)
    if not len(starts):
        return 0, 0, np.zeros((0, 0), dtype=bool)
    column, row = np.divmod(starts, height)
    lengths = stops - starts
    x0, x1 = int(column[0]), int(stops[-1] - 1) // height + 1
    y0, y1 = int(row.min()), int((row + lengths).max())
    if y1 > height:  # a run goes on in the next column
        y0, y1 = 0, height
    h = y1 - y0
    at = (column - x0) * h + row - y0
    edges = np.stack([at, at + lengths], axis=1).ravel()
    pattern = np.arange(len(edges) + 1) % 2 == 1
    inside = np.repeat(pattern, np.diff(edges, prepend=0, append=(x1 - x0) * h))
    return x0, y0, inside.reshape(x1 - x0, h)


def decode_window(counts: bytes, height: int, tile: Tile) -> Bool[np.ndarray, "h w"]:
    """The part of a mask inside ``tile``, as a dense window of the tile's size."""
    result = np.zeros(tile.size, dtype=bool)
    x, y, dense = window(counts, height)
    common = tile.intersect(Tile(x, y, x + dense.shape[0], y + dense.shape[1]))
    if common is not None:
        part = dense[common.x0 - x : common.x1 - x, common.y0 - y : common.y1 - y]
        rows = slice(common.y0 - tile.y0, common.y1 - tile.y0)
        result[rows, common.x0 - tile.x0 : common.x1 - tile.x0] = part.T
    return result


def intersect(counts: bytes, where: Bool[np.ndarray, "H W"]) -> bytes:
    """Return the part of a mask inside ``where``; the same bytes if that is all of it.

    The cost grows with the box of the mask, not with the image.
    """
    x, y, dense = window(counts, where.shape[0])
    part = dense & where[y : y + dense.shape[1], x : x + dense.shape[0]].T
    if np.array_equal(part, dense):
        return counts
    return encode_window(part.T, x, y, (where.shape[0], where.shape[1]))


def area(counts: Sequence[bytes], size: tuple[int, int]) -> Int64[np.ndarray, " N"]:
    """Pixels per mask."""
    # One by one: given 256 masks at once, pycocotools 2.0.11 overflows under NumPy 2.
    return np.array([coco.area(rle) for rle in _objects(counts, size)], dtype=np.int64)


def to_xyxy(counts: Sequence[bytes], size: tuple[int, int]) -> Float[np.ndarray, "N 4"]:
    """Tight boxes, right and lower edges exclusive; zeros for an empty mask."""
    boxes = np.asarray(coco.toBbox(_objects(counts, size)), dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def rotated_boxes(counts: Sequence[bytes], size: tuple[int, int]) -> Float32[np.ndarray, "N 8"]:
    """The smallest rotated rectangle around each mask: four corners, x y in pixels.

    Pixels count as squares: a mask of one row has the height 1. An empty mask has zeros.
    """
    found = np.zeros((len(counts), 8), np.float32)
    for row, code in zip(found, counts, strict=True):
        x0, y0, dense = window(code, size[0])
        if dense.size:
            x, y = np.nonzero(dense)
            # The convex hull needs no more of a column than its two ends.
            new = x[1:] != x[:-1]
            ends = np.append(True, new) | np.append(new, True)
            x, y = x[ends] + x0, y[ends] + y0
            corners = [np.stack([x + i, y + j], axis=1) for i in (0, 1) for j in (0, 1)]
            points = np.concatenate(corners).astype(np.float32)
            row[:] = cv2.boxPoints(cv2.minAreaRect(points)).ravel()
    return found


def iou(
    a: Sequence[bytes], b: Sequence[bytes], size: tuple[int, int]
) -> Float[np.ndarray, "Na Nb"]:
    """Intersection over union of every pair of masks of one image size."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    pairs = coco.iou(_objects(a, size), _objects(b, size), [False] * len(b))
    return np.asarray(pairs, dtype=np.float64)


def union(counts: Iterable[bytes], size: tuple[int, int]) -> bytes:
    """One mask that covers what any of them covers; of none, an empty one.

    Runs are spans of one line, so their starts and their stops are sorted and swept once: the cost
    grows with the runs, not with masks times pixels, as it does where masks are merged in turn.
    """
    parts = [spans(code) for code in counts]
    nothing = np.zeros(0, np.int64)
    start = np.sort(np.concatenate([nothing, *(first for first, _ in parts)]))
    stop = np.sort(np.concatenate([nothing, *(last for _, last in parts)]))
    # A gap lies before the i-th start where i spans have ended, for only these have begun.
    opens = np.ones(len(start), dtype=bool)
    opens[1:] = start[1:] > stop[:-1]
    closes = np.roll(opens, -1)
    return _compress(np.stack([start[opens], stop[closes]], axis=1).ravel(), size)


def _objects(counts: Sequence[bytes], size: tuple[int, int]) -> list[dict[str, object]]:
    return [{"size": list(size), "counts": c} for c in counts]


def _compress(position: Int64[np.ndarray, " _"], size: tuple[int, int]) -> bytes:
    """Where runs end, in column-major order, as compressed COCO counts."""
    height, width = size
    runs = np.diff(position, prepend=0, append=height * width)
    if runs[-1] == 0:
        runs = runs[:-1]
    return bytes(
        coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    )
