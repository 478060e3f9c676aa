"""Three stages that run at the same time: reading ahead, the device, and finishing on the CPU.

A thread reads ahead, the calling thread uses the device, and a pool of threads finishes the images.
Each stage accepts a bounded number of images and pixels and then waits for the next stage, so a
slow stage does not let the memory grow. Images keep their order, and each is finished by one
thread, so the values do not depend on the number of threads. Threads suffice, because decoders,
NumPy, OpenCV, SciPy and PyTorch release the GIL during most of their work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from threading import Event
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")

#: Maximum number of images, and of pixels, in a stage. A larger image is in a stage by itself.
IMAGES, PIXELS = 8, 1 << 24
#: Maximum number of images in all three stages.
IN_FLIGHT = 3 * IMAGES


def read_ahead(
    read: Callable[[In], Out], items: Iterable[In], *, pixels: Callable[[Out], int]
) -> Generator[list[Out], None, None]:
    """Yield ``read(item)`` of all items in groups, while a thread reads the next group.

    The groups depend only on the pixels, not on the time that reading takes.

    Args:
        read: reads one item, in the thread.
        items: the items.
        pixels: returns the number of pixels of what ``read`` returned.

    Yields:
        Groups of at most `IMAGES` and `PIXELS`.
    """
    stopping = Event()
    groups = _group(map(read, takewhile(lambda _: not stopping.is_set(), items)), pixels)
    with _start_threads(1) as reader:
        try:
            group: list[Out] | None
            ahead = reader.submit(next, groups, None)
            while (group := ahead.result()) is not None:
                ahead = reader.submit(next, groups, None)
                yield group
        finally:
            stopping.set()  # after the image that is being read


def finish_in_order(
    finish: Callable[[In], Out],
    items: Iterable[In],
    *,
    pixels: Callable[[In], int],
    threads: int,
) -> Generator[Out, None, None]:
    """Yield ``finish(item)`` of all items in order, computed in threads.

    An item is requested before the previous ones are finished, unless `IMAGES` or `PIXELS` are
    unfinished.

    Args:
        finish: finishes one item, in a thread.
        items: the items; they are computed in the calling thread.
        pixels: returns the number of pixels of an item.
        threads: number of threads.

    Yields:
        The values, as soon as they and all values before them are available.
    """
    unfinished: deque[tuple[int, Future[Out]]] = deque()
    with _start_threads(threads) as pool:
        for item in items:
            unfinished.append((pixels(item), pool.submit(finish, item)))
            del item  # the last reference, unless the item is unfinished
            while unfinished and (_is_full(unfinished) or unfinished[0][1].done()):
                yield unfinished.popleft()[1].result()
        while unfinished:
            yield unfinished.popleft()[1].result()


def _is_full(unfinished: Iterable[tuple[int, Future[Out]]]) -> bool:
    """Return whether a further item would exceed the number of items or of pixels."""
    sizes = [size for size, _ in unfinished]
    return len(sizes) >= IMAGES or sum(sizes) >= PIXELS


def _group(items: Iterable[Out], pixels: Callable[[Out], int]) -> Iterator[list[Out]]:
    """Yield groups of up to `IMAGES` and `PIXELS`; a larger image is a group by itself."""
    group: list[Out] = []
    total = 0
    for item in items:
        size = pixels(item)
        if group and total + size > PIXELS:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
        if len(group) == IMAGES or total >= PIXELS:
            yield group
            group, total = [], 0
    if group:
        yield group


@contextmanager
def _start_threads(n: int) -> Iterator[ThreadPoolExecutor]:
    """Start threads that end with the context, where calls that have not begun are dropped."""
    # PyTorch has a number of threads for each thread.
    pool = ThreadPoolExecutor(
        n, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
