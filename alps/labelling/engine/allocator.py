"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

#: Parameters of mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Bytes. Larger blocks are returned to the system when they are freed. Older versions of glibc
#: refuse more than 32 MiB.
LARGEST = (1 << 30, 1 << 25)


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed blocks, to use it again.

    By default, glibc returns the memory of large arrays, and the system fills every page with zeros
    when the next array of this size is allocated: a tenth of the CPU time of labelling. The peak
    memory hardly changes. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for size in LARGEST:
        if mallopt(M_MMAP_THRESHOLD, size):
            mallopt(M_TRIM_THRESHOLD, size)
            return
