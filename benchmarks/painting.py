"""Compare the conversion of masks to run lengths and to an index map.

python -m benchmarks.painting

The loop over pixels in Python visits the windows of a few masks and is scaled to the pixels of all
masks at image size, which such a loop would visit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from pycocotools import mask as coco

from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import paint
from benchmarks.measure import Spread, arguments, one_thread, ratio, show

SIZE = 1024, 1024
Window = tuple[Bool[np.ndarray, "h w"], int, int]  # with its left upper corner x, y
Peer = Callable[[], tuple[UInt8[np.ndarray, "H W"], float, float]]


def blobs(n: int) -> list[Window]:
    """Return ragged ellipses, 8 to 400 pixels across: many small ones and a few large."""
    rng = np.random.default_rng(0)
    windows = []
    for h, w in np.exp(rng.uniform(np.log(8), np.log(400), (n, 2))).astype(int):
        y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        window = y**2 + x**2 + rng.normal(0, 0.05, (h, w)) < 1
        windows.append((window, int(rng.integers(SIZE[1] - w)), int(rng.integers(SIZE[0] - h))))
    return windows


def ours(
    windows: list[Window], category_id: Int64[np.ndarray, " N"]
) -> tuple[UInt8[np.ndarray, "H W"], float, float]:
    """Convert windows to run lengths and to the index map; return the seconds of both steps."""
    start = time.process_time()
    counts = [rle.encode_window(window, x, y, SIZE) for window, x, y in windows]
    middle = time.process_time()
    index_map = paint(Masks.from_counts(counts, SIZE), category_id, 255)
    return index_map, middle - start, time.process_time() - middle


def dense(
    windows: list[Window], category_id: Int64[np.ndarray, " N"]
) -> tuple[UInt8[np.ndarray, "H W"], float, float]:
    """Use pycocotools on masks at image size, and NumPy's boolean painting."""
    whole = [_whole(*window) for window in windows]
    start = time.process_time()
    encoded = [coco.encode(np.asfortranarray(mask)) for mask in whole]
    middle = time.process_time()
    index_map = np.full(SIZE, 255, np.uint8)
    area = np.array([coco.area(one) for one in encoded])
    for i in np.argsort(-area, kind="stable"):
        index_map[coco.decode(encoded[i]).astype(bool)] = category_id[i]
    return index_map, middle - start, time.process_time() - middle


def loop(
    windows: list[Window], category_id: Int64[np.ndarray, " N"], some: int
) -> tuple[UInt8[np.ndarray, "H W"], float, float]:
    """Paint pixel by pixel: the middle quarter of ``some`` masks' images, scaled to all."""
    index_map = np.full(SIZE, 255, np.uint8)
    height, width = SIZE[0] // 2, SIZE[1] // 2
    spent = 0.0
    for i in range(some):
        mask = _whole(*windows[i])
        start = time.process_time()
        for y in range(height // 2, height // 2 + height):
            for x in range(width // 2, width // 2 + width):
                if mask[y, x]:
                    index_map[y, x] = category_id[i]
        spent += time.process_time() - start
    return index_map, 0.0, spent * 4 * len(windows) / some


def _whole(window: Bool[np.ndarray, "h w"], x: int, y: int) -> UInt8[np.ndarray, "H W"]:
    whole = np.zeros(SIZE, np.uint8)
    whole[y : y + window.shape[0], x : x + window.shape[1]] = window
    return whole


def main() -> None:
    args = arguments(str(__doc__)).parse_args()
    one_thread()
    windows = blobs(200)
    category_id = np.arange(len(windows)) % 46
    some = len(windows) if args.full else 4
    peers: dict[str, Peer] = {
        "ours": lambda: ours(windows, category_id),
        "pycocotools, whole images": lambda: dense(windows, category_id),
        "a loop over pixels": lambda: loop(windows, category_id, some),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(5):
        maps = {}
        for name, work in peers.items():
            maps[name], *times = work()
            seconds[name].append((times[0], times[1]))
        if not np.array_equal(maps["ours"], maps["pycocotools, whole images"]):
            raise RuntimeError("the index maps differ")
    rows = []
    best = np.array(seconds["ours"])
    for name, times in seconds.items():
        encode, draw = np.array(times).T
        looped = name == "a loop over pixels"
        rows.append(
            [
                name,
                "" if looped else Spread.of(1000 * encode),
                Spread.of(1000 * draw),
                "" if looped else ratio(encode, best[:, 0]),
                ratio(draw, best[:, 1]),
            ]
        )
    show(
        f"{len(windows)} masks of {SIZE[0]} x {SIZE[1]} pixels; the loop measured on {some} "
        "of them, a quarter of their pixels",
        ["", "encode, CPU ms", "paint, CPU ms", "encode x", "paint x"],
        rows,
    )


if __name__ == "__main__":
    main()
