"""A limit on the time that one thing may take, so that one of many cannot stop the others."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alps.errors import ImageError


class _Late(BaseException):
    """No `Exception`: decoders catch these."""


@contextmanager
def deadline(seconds: float, name: str) -> Iterator[None]:
    """Stop the block when it takes longer.

    An alarm signal does it, between two steps of Python. So it works in a main thread alone, not
    on Windows, and code in C is stopped when it returns, not before: a decoder that never returns
    is not stopped. No file of benchmarks.fuzz makes one do so.

    Args:
        seconds: the limit, by the clock on the wall.
        name: what is read, for the message.

    Raises:
        ImageError: it took longer.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise _Late

    begin, before = time.monotonic(), signal.signal(signal.SIGALRM, stop)
    # Again, where somebody caught the first.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except _Late:
        raise ImageError(
            f"{name} takes longer than {seconds:g} s to read: damaged, or on a disk that does not "
            "answer; look at it, and label again with overwrite=masks once it is mended"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # an alarm of the caller's
            rest = max(left - (time.monotonic() - begin), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
