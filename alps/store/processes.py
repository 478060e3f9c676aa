"""Check whether processes are alive; files of dead processes may be removed."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def _host() -> str:
    """Return an id of this machine or container: its host name, boot id and PID namespace.

    A process id is unique only within its PID namespace and since the last boot.
    """
    name = socket.gethostname().replace("/", "_")
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
        return f"{name}-{boot}-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - no file
    return name


#: Id of this machine or container among those that share a file system; part of file names.
HOST = _host()


def start_time(pid: int) -> int | None:
    """Return when a process of this machine started, in ticks since boot; None: unknown."""
    with suppress(IndexError, ValueError):
        return int(_stat(pid)[19])
    return None


def is_alive(pid: int, since: int | None = None) -> bool:
    """Return whether a process of this machine is alive.

    Args:
        pid: process id.
        since: start of the process in ticks since boot, because process ids are reused; None: any.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    if _stat(pid)[:1] == ["Z"]:  # a zombie: dead, but not yet reaped by its parent
        return False
    start = start_time(pid)
    return since is None or start is None or since == start


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty if they cannot be read."""
    with suppress(OSError):
        # The program name before the state, in parentheses, may contain any character.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
