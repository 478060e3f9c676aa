"""Run label.py in a forked process that can be disturbed.

The parent has imported all libraries, which takes long. Only the workers of engine.processes=2 are
new Python processes, as usual.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.process import ROOT

IMAGES = 32  # one a shard
SECONDS = 600.0  # a run that takes longer hangs
SETTINGS = (
    *("+dataset=folder", "dataset._target_=benchmarks.slow.SlowImages"),
    *("dataset.name=drawn", "dataset.root=drawn", "~dataset.split"),
    *(f"+dataset.n={IMAGES}", "+dataset.pause=0.04"),
    *("sam._target_=benchmarks.slow.load_fake", "masks.points_per_side=4", "masks.ground=0"),
    *("features=shape", "assign.k=8", "engine.threads=1"),
)
Marks = dict[str, tuple[int, int]]


#: What takes long to import, and starts no thread: a fork would lose it (so pyarrow stays away).
SLOW = (
    *("torch", "torchvision", "timm", "faiss", "cv2", "scipy.spatial"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "label"),
)


def preload() -> None:
    """Import what label.py imports, as far as a fork can inherit it."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = str(ROOT)  # of the workers
    from tqdm import tqdm

    for name in SLOW:
        importlib.import_module(name)
    tqdm.monitor_interval = 0


def obey_modes() -> None:
    """Make root subject to file permissions, like any other user.

    It drops CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, see capabilities(7).
    """
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3; this process
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; of 32 capabilities, twice
    if libc.capget(header, held) == 0:
        held[0] &= ~0b110
        held[1] &= ~0b110
        if libc.capset(header, held) == 0:
            return
    raise OSError(ctypes.get_errno(), "capset")


class Program:
    """One run of label.py, whose output goes to a file (the disk of the store may be full).

    Args:
        store: folder of the store.
        overrides: overrides in addition to ``settings``.
        first: function that the new process calls first.
        settings: images and recipe, by default drawn images and a fake SAM.
    """

    started: list[Program] = []  # noqa: RUF012 - of all, to be ended with the script

    def __init__(
        self,
        store: Path,
        *overrides: str,
        first: Callable[[], object] = int,
        settings: Sequence[str] = SETTINGS,
    ) -> None:
        self.store, self._first = store, first
        self._log = store.parents[1] / f"{len(self.started)}.log"
        self._arguments = ("label.py", f"store={store}", *settings, *overrides)
        self.status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._become()
        self.started.append(self)

    def _become(self) -> None:
        """Run label.py in this process; never returns."""
        status = 1
        try:
            with self._log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._first()
            from tqdm import tqdm

            tqdm.set_lock(threading.RLock())  # that of the parent is shared with all its children
            sys.argv = list(self._arguments)
            runpy.run_path(str(ROOT / "label.py"), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:  # it is what is looked for
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def ended(self) -> bool:
        """Return whether it has ended; `status` is -9 after a SIGKILL, as in `subprocess`."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self) -> int:
        """Return the exit status; kill the process if it hangs."""
        if not until(self.ended):
            self.kill()
            return 124
        assert self.status is not None
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> bool:
        """Send a signal; return False if the process has already ended."""
        if self.ended():
            return False
        os.kill(self.pid, number)
        return True

    def output(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return its live worker processes."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
                own = int(parent) == self.pid and state != "Z"
                if own and b"spawn_main" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return sorted(found)

    def at_work(self) -> bool:
        """Wait until it has committed a shard; return False if it ends before."""
        before = marks(self.store)
        until(lambda: self.ended() or marks(self.store).keys() - before.keys())
        return not self.ended()


def until(condition: Callable[[], object]) -> bool:
    """Wait for a condition; return False if it does not become true in time."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def marks(store: Path) -> Marks:
    """Return the files that commit shards, with their modification times."""
    found = {}
    for folder in ("masks", "labels"):
        for path in (store / folder).glob("*.parquet"):
            with suppress(FileNotFoundError):
                found[str(path)] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def contents(store: Path) -> dict[str, bytes]:
    """Return the content of all files by name."""
    return dict(_contents(store))


def _contents(store: Path) -> Iterator[tuple[str, bytes]]:
    for path in store.rglob("*"):
        if path.is_file():
            yield path.relative_to(store).as_posix(), path.read_bytes()
