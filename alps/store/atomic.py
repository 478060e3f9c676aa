"""Files that appear whole or not at all, and what is left of those that never did."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from alps.errors import StoreError, cannot_write
from alps.store.processes import HOST, lives, started

#: Below the root, where files are written before they get their names.
UNFINISHED = ".tmp"
#: Seconds after which a half-written file of another machine is nobody's.
STALE = 3600.0


@contextmanager
def atomic(root: Path, name: str) -> Iterator[IO[bytes]]:
    """Write ``root/name``: temporary name, fsync, rename. Raises `StoreError` naming the place."""
    target = root / name
    pid = os.getpid()
    temporary = root / UNFINISHED / f"{pid}-{started(pid)}-{secrets.token_hex(8)}-{HOST}"
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
    """Remove what killed processes left half-written below ``root``.

    Those of another machine cannot be seen to live: what they have not touched for `STALE` seconds
    is removed.
    """
    with suppress(OSError):
        for path in (root / UNFINISHED).iterdir():
            with suppress(OSError):  # another run has removed it
                if _is_left(path):
                    path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    """Whether who wrote a temporary file is dead."""
    try:
        pid, since, _, host = path.name.split("-", 3)
        if host == HOST:
            return not lives(int(pid), int(since) if since != "None" else None)
    except ValueError:  # an older ALPS named it
        return True
    return time.time() - path.stat().st_mtime > STALE
