"""Which processes live: what a dead one left behind may be removed."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def _host() -> str:
    """The name of this machine, and what tells apart machines and containers that share a name.

    The number of a process means something only in its own PID namespace and since the last boot.
    """
    name = socket.gethostname().replace("/", "_")
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
        return f"{name}-{boot}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - no file
    return name


#: This machine, or container, among those that share a file system; part of file names.
HOST = _host()


def started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the boot; None where nobody says."""
    with suppress(IndexError, ValueError):
        return int(_stat(pid)[19])
    return None


def lives(pid: int, since: int | None = None) -> bool:
    """Whether a process of this machine lives, and is the one that began then: numbers return."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    if _stat(pid)[:1] == ["Z"]:  # it was killed, and nobody has asked what became of it
        return False
    now = started(pid)
    return since is None or now is None or since == now


def _stat(pid: int) -> list[str]:
    """What Linux says of a process, from its state on."""
    with suppress(OSError):
        # The name of the program comes before it, in parentheses, and may hold any sign.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
