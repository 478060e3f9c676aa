"""Claims on units of work (a shard, a part of a k-means pass): files in ``.claims/``.

Claims keep the runs on one store from doing the same work twice. No result depends on them: a unit
that is computed twice has the same bytes and is written atomically. If a network file system makes
a claim visible too late, only time is lost.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from alps.errors import StoreError, cannot_write
from alps.store.processes import HOST, is_alive, start_time

log = logging.getLogger(__name__)

FOLDER = ".claims"
#: Seconds after which a claim that was not renewed expires. A client of a network file system may
#: see modification times that are a minute old.
EXPIRY = 180.0
RENEWAL = 15.0  # seconds between two renewals
POLL_INTERVAL = 0.5  # seconds between two attempts to get a claim
LOG_AFTER = 5.0  # seconds of waiting after which the holder of the claim is logged


class Claims:
    """The claims of this process on one store, renewed by a thread until they are released.

    Args:
        root: folder of the store.
        expiry: seconds after which a claim that was not renewed expires. Ages are measured against
            a file that was just touched in the same folder, so the clocks of machines need not
            agree. Claims of dead processes of this machine expire at once.
    """

    def __init__(self, root: Path, *, expiry: float = EXPIRY) -> None:
        self.folder, self.expiry = root / FOLDER, expiry
        self._contents: dict[str, bytes] = {}  # of the claims that this process holds
        self._wait_starts: dict[str, float] = {}
        self._released = threading.Event()
        self._renewal: threading.Thread | None = None

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release all claims; remove the folder if it is empty then."""
        self._released.set()
        self.release(*self._contents)
        with suppress(OSError):
            (self.folder / "now").unlink(missing_ok=True)
            self.folder.rmdir()

    def register_run(self) -> None:
        """Register this run until its end, so that other runs see it before it claims a unit."""
        self.take(f"run-{secrets.token_hex(4)}")

    def take(self, name: str) -> bool:
        """Claim a unit of work.

        Returns:
            Whether this process now holds the claim; False if another process holds it.

        Raises:
            StoreError: the store cannot be written.
        """
        owner = {"host": HOST, "pid": os.getpid(), "started": start_time(os.getpid())}
        fields = {**owner, "time": time.time(), "token": secrets.token_hex(8)}
        content = json.dumps(fields).encode()
        path = self.folder / name
        self._contents[name] = content  # before the file exists: an interrupt may come at any time
        try:
            if not _create(path, content) and not (
                self._remove_expired(path) and _create(path, content)
            ):
                del self._contents[name]
                return False
        except OSError as error:
            del self._contents[name]
            raise StoreError(cannot_write(path, error)) from error
        self._wait_starts.pop(name, None)
        if self._renewal is None:
            self._renewal = threading.Thread(target=self._renew, name="claims", daemon=True)
            self._renewal.start()
        return True

    def release(self, *names: str) -> None:
        """Release claims, except those that have expired and been taken by another process."""
        for name in names:
            path = self.folder / name
            with suppress(OSError):
                if path.read_bytes() == self._contents.get(name):
                    path.unlink()
            self._contents.pop(name, None)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Hold a claim within the context, after waiting for other processes that hold it."""
        while not self.take(name):
            self.wait(name)
        try:
            yield
        finally:
            self.release(name)

    def wait(self, name: str) -> None:
        """Sleep for a moment; after `LOG_AFTER` seconds, log once which process holds the claim."""
        start = self._wait_starts.setdefault(name, time.monotonic())
        if time.monotonic() - start > LOG_AFTER:
            self._wait_starts[name] = float("inf")
            with suppress(OSError, ValueError):
                owner = json.loads((self.folder / name).read_bytes())
                log.info("waiting for %s: process %s on %s", name, owner["pid"], owner["host"])
        time.sleep(POLL_INTERVAL)

    def other_claims(self) -> list[str]:
        """Return the names of the claims of other live processes."""
        try:
            names = {path.name for path in self.folder.iterdir()} - {"now", *self._contents}
            return sorted(name for name in names if not self._is_expired(self.folder / name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"cannot list {self.folder}: {error.strerror or error}; fix the permissions, or "
                "choose another folder with store=DIR"
            ) from error

    def require_exclusive(self, action: str) -> None:
        """Raise `StoreError` if another run uses the store; the message names ``action``."""
        if names := self.other_claims():
            raise StoreError(
                f"cannot {action}: another run uses {self.folder.parent} ({', '.join(names[:3])}); "
                "wait until it ends or stop it, or label into a new store (store=DIR)"
            )

    def clear(self) -> None:
        """Remove the claims of all other processes; call this only after all work is done."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name not in self._contents:
                    path.unlink(missing_ok=True)

    def _remove_expired(self, path: Path) -> bool:
        """Remove a claim if it has expired; return whether the claim is free now."""
        try:
            content = path.read_bytes()
            if not self._is_expired(path):
                return False
            renamed = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            path.rename(renamed)
        except FileNotFoundError:
            return True
        # Between the check and the rename another process may have created its own claim.
        expired = renamed.read_bytes() == content
        if not expired:
            with suppress(OSError):
                os.link(renamed, path)
        renamed.unlink()
        return expired

    def _is_expired(self, path: Path) -> bool:
        try:
            with suppress(ValueError, KeyError, TypeError):  # it is being written
                owner = json.loads(path.read_bytes())
                if owner["host"] == HOST and not is_alive(owner["pid"], owner["started"]):
                    return True
            renewed = path.stat().st_mtime
        except FileNotFoundError:
            return True
        clock = self.folder / "now"
        while True:
            with suppress(FileNotFoundError):  # a run that ended has removed it
                clock.touch()
                return clock.stat().st_mtime - renewed > self.expiry
            if not self.folder.exists():
                return True

    def _renew(self) -> None:
        while not self._released.wait(min(RENEWAL, self.expiry / 4)):
            for name in list(self._contents):
                with suppress(OSError):
                    os.utime(self.folder / name)


def _create(path: Path, content: bytes) -> bool:
    """Create a file with this content; return False if it exists already."""
    while True:
        try:
            file = path.open("xb")
        except FileExistsError:
            return False
        except FileNotFoundError:  # the folder was removed with the last claim
            path.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            with file:
                file.write(content)
        except BaseException:  # an empty claim would block others until it expires
            path.unlink(missing_ok=True)
            raise
        return True
