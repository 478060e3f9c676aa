"""A time limit for reading an image, so that one file cannot block the others."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alps.errors import ImageError


class _Late(BaseException):
    """The time limit has passed; not an `Exception`, because decoders catch those."""


@contextmanager
def deadline(seconds: float, name: str) -> Iterator[None]:
    """Interrupt the block when it exceeds a time limit.

    It uses an alarm signal, which Python handles between two bytecode instructions. It therefore
    works only in the main thread and not on Windows, and cannot interrupt C code before it
    returns. A decoder that never returns is not stopped; no file of benchmarks.fuzz triggers one.

    Args:
        seconds: the limit in seconds of wall time.
        name: name of the file, for the message.

    Raises:
        ImageError: the limit was exceeded.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise _Late

    begin, before = time.monotonic(), signal.signal(signal.SIGALRM, stop)
    # Repeated every second, in case other code catches the first alarm.
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
        if left:  # restore an alarm that the caller had set
            rest = max(left - (time.monotonic() - begin), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
