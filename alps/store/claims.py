"""Claims on parts of a store: files below ``.claims/``, one per part in progress.

Claims are the only communication between runs on one store, and keep them from doing the same work
twice. No result depends on them: a part that is computed twice has the same bytes and is written
atomically, so a claim that a file system shows too late only costs time.
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
from alps.store.processes import HOST, lives, started

log = logging.getLogger(__name__)

FOLDER = ".claims"
#: Seconds after which a claim that was not renewed expires. A client of a network file system may
#: see modification times that are a minute old.
EXPIRY = 180.0
RENEWAL = 15.0  # seconds between two renewals
PATIENCE = 0.5  # seconds between two attempts to get a claim
SILENCE = 5.0  # seconds of waiting before the holder of the claim is logged


class Claims:
    """The claims of this process on one store, renewed by a thread until they are released.

    Args:
        root: folder of the store.
        expiry: seconds after which a claim that was not renewed expires. Ages are measured against
            a file that was just touched in the same folder, so the clocks of machines need not
            agree. A claim of a dead process of this machine expires at once.
    """

    def __init__(self, root: Path, *, expiry: float = EXPIRY) -> None:
        self.folder, self.expiry = root / FOLDER, expiry
        self._held: dict[str, bytes] = {}
        self._waiting: dict[str, float] = {}
        self._over = threading.Event()
        self._renewal: threading.Thread | None = None

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Release all claims; the last one to be released removes the folder."""
        self._over.set()
        self.release(*self._held)
        with suppress(OSError):
            (self.folder / "now").unlink(missing_ok=True)
            self.folder.rmdir()

    def arrive(self) -> None:
        """Register this run until the end, so that others see it even while it claims no part."""
        self.take(f"run-{secrets.token_hex(4)}")

    def take(self, name: str) -> bool:
        """Claim a part; return False while another process holds it.

        Raises:
            StoreError: the store cannot be written.
        """
        who = {"host": HOST, "pid": os.getpid(), "started": started(os.getpid())}
        mine = json.dumps({**who, "time": time.time(), "token": secrets.token_hex(8)}).encode()
        path = self.folder / name
        self._held[name] = mine  # before the file exists: an interrupt may come at any time
        try:
            if not _create(path, mine) and not (self._remove_expired(path) and _create(path, mine)):
                del self._held[name]
                return False
        except OSError as error:
            del self._held[name]
            raise StoreError(cannot_write(path, error)) from error
        self._waiting.pop(name, None)
        if self._renewal is None:
            self._renewal = threading.Thread(target=self._renew, name="claims", daemon=True)
            self._renewal.start()
        return True

    def release(self, *names: str) -> None:
        """Release claims; one that has expired and now belongs to another process stays."""
        for name in names:
            path = self.folder / name
            with suppress(OSError):
                if path.read_bytes() == self._held.get(name):
                    path.unlink()
            self._held.pop(name, None)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold a claim within the context; wait while another process holds it."""
        while not self.take(name):
            self.wait(name)
        try:
            yield
        finally:
            self.release(name)

    def wait(self, name: str) -> None:
        """Sleep for a moment; after `SILENCE` seconds, log once which process holds the claim."""
        since = self._waiting.setdefault(name, time.monotonic())
        if time.monotonic() - since > SILENCE:
            self._waiting[name] = float("inf")
            with suppress(OSError, ValueError):
                who = json.loads((self.folder / name).read_bytes())
                log.info("waiting for %s: process %s on %s", name, who["pid"], who["host"])
        time.sleep(PATIENCE)

    def others(self) -> list[str]:
        """Return the names of the claims of other live processes."""
        try:
            names = {path.name for path in self.folder.iterdir()} - {"now", *self._held}
            return sorted(name for name in names if not self._is_expired(self.folder / name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(cannot_write(self.folder, error)) from error

    def require_alone(self, what: str) -> None:
        """Raise `StoreError` if another run uses the store; ``what`` is the action it prevents."""
        if others := self.others():
            raise StoreError(
                f"another run uses {self.folder.parent} ({', '.join(others[:3])}); {what} once it "
                "has ended, or stop it; or label into a new store (store=DIR)"
            )

    def clear(self) -> None:
        """Remove the claims of all other processes, once no work is left."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name not in self._held:
                    path.unlink(missing_ok=True)

    def _remove_expired(self, path: Path) -> bool:
        """Remove a claim if it has expired, and return whether it is gone."""
        try:
            content = path.read_bytes()
            if not self._is_expired(path):
                return False
            aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            path.rename(aside)
        except FileNotFoundError:
            return True
        # Between the check and the rename another process may have created its own claim.
        expired = aside.read_bytes() == content
        if not expired:
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink()
        return expired

    def _is_expired(self, path: Path) -> bool:
        try:
            with suppress(ValueError, KeyError, TypeError):  # it is being written
                who = json.loads(path.read_bytes())
                if who["host"] == HOST and not lives(who["pid"], who["started"]):
                    return True
            renewed = path.stat().st_mtime
        except FileNotFoundError:
            return True
        clock = self.folder / "now"
        while True:
            with suppress(FileNotFoundError):  # removed by a run that ended
                clock.touch()
                return clock.stat().st_mtime - renewed > self.expiry
            if not self.folder.exists():
                return True

    def _renew(self) -> None:
        while not self._over.wait(min(RENEWAL, self.expiry / 4)):
            for name in list(self._held):
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
