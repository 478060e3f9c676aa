"""Atomic writes, and removal of the temporary files of killed processes."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from alps.errors import StoreError, cannot_write
from alps.store.processes import HOST, is_alive, start_time

#: Folder below the root for temporary files.
UNFINISHED = ".tmp"
#: Seconds after which a temporary file of another machine is considered abandoned.
STALE = 3600.0


@contextmanager
def atomic(root: Path, name: str) -> Iterator[IO[bytes]]:
    """Write ``root/name`` atomically: temporary file, fsync, rename.

    Yields:
        The temporary file, open for writing.

    Raises:
        StoreError: the file cannot be written.
    """
    target = root / name
    pid = os.getpid()
    temporary = root / UNFINISHED / f"{pid}-{start_time(pid)}-{secrets.token_hex(8)}-{HOST}"
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StoreError(cannot_write(target, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def discard_unfinished(root: Path) -> None:
    """Remove the temporary files of dead processes below ``root``.

    Processes of other machines cannot be checked; their files are removed if they have not been
    modified for `STALE` seconds.
    """
    with suppress(OSError):
        for path in (root / UNFINISHED).iterdir():
            with suppress(OSError):  # another run may have removed it
                if _is_abandoned(path):
                    path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    """Return whether the process that wrote a temporary file is dead."""
    try:
        pid, since, _, host = path.name.split("-", 3)
        if host == HOST:
            return not is_alive(int(pid), int(since) if since != "None" else None)
    except ValueError:  # a name that an older version has written
        return True
    return time.time() - path.stat().st_mtime > STALE
