"""Shards given to the actors of a Ray cluster, whose machines share the file system of the store.

An actor does what a process of `alps.labelling.engine.local` does, and the bytes are the same.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.errors import AlpsError, ConfigError, MissingPackage, WorkersLost
from alps.labelling.engine.crew import Crew
from alps.labelling.engine.place import Place, find_place
from alps.labelling.engine.worker import Event, Worker, check_threads
from alps.protocols import Run

log = logging.getLogger(__name__)

#: Seconds of waiting for the first actor before the user is told.
SILENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Ray actors do the shards.

    Args:
        actors: how many. Each takes a CPU, and its share of a GPU where the cluster has some.
        address: of a cluster; None: the one that RAY_ADDRESS or ``ray start`` names, else one on
            this machine that ends with the run.
        threads: CPU threads of each, see `alps.labelling.engine.local.LocalEngine`.

    Raises:
        ConfigError: there is no such number of actors.
        AlpsError: there is no cluster at the address.
    """

    actors: int = 2
    address: str | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        if not (isinstance(self.actors, int) and self.actors > 0):
            raise ConfigError(f"engine.actors={self.actors}: expected 1 or more")
        check_threads(self.threads)

    @property
    def place(self) -> Place:
        """Which of several runs this one is."""
        return find_place()

    @contextmanager
    def workers(self) -> Iterator[Run]:
        """What does work as long as the context is open; the cluster is asked at the first."""
        with Crew(Actors(self.actors, self.address, self.threads)) as crew:
            yield crew.run


class Actors:
    """See `alps.labelling.engine.crew.Hands`."""

    def __init__(self, n: int, address: str | None, threads: int) -> None:
        self._ray = _import_ray()
        self._n, self._address, self._threads = n, address, threads
        self._actors: list[Any] = []
        self._sent: tuple[bytes, Any] = (b"", None)
        self._streams: dict[int, Any] = {}
        self._connected = False
        self._patience: float | None = SILENCE  # until the first actor says something

    def start(self) -> int:
        """Connect, and ask for all actors; each is ready when the cluster has room for it."""
        ray = self._ray
        if not ray.is_initialized():
            with _own_sigterm():
                self._connect()
            self._connected = True
        gpus = int(ray.cluster_resources().get("GPU", 0))
        actor = ray.remote(RayWorker).options(
            num_cpus=1,
            num_gpus=1 / -(-self._n // gpus) if gpus else 0,  # so that all of them find a place
            runtime_env={"env_vars": _environment()},
        )
        level = logging.getLogger("alps").getEffectiveLevel()
        for worker in range(self._n):
            self._actors.append(actor.remote(self._threads, level, str(Path.cwd())))
            self._streams[worker] = self._stream(worker, "greet")
        return self._n

    def keep(self, worker: int, task: bytes) -> None:
        """The task goes to the cluster once, whatever the number of actors."""
        if self._sent[0] is not task:
            self._sent = task, self._ray.put(task)
        self._actors[worker].keep.remote(self._sent[1])

    def give(self, worker: int, item: Any) -> None:
        """Ask for a piece."""
        self._streams[worker] = self._stream(worker, "do", item)

    def listen(self) -> list[tuple[int, Event]]:
        """One event of an actor that has any."""
        try:
            ready, _ = self._ray.wait(
                list(self._streams.values()), num_returns=1, timeout=self._patience
            )
            if not ready:
                log.info(
                    "waiting for the Ray cluster: no actor has begun after %d s; each of the %d "
                    "takes a CPU (fewer: engine.actors)",
                    *(SILENCE, self._n),
                )
            self._patience = None
        except SystemExit as error:  # what Ray raises when the cluster ends under a run
            raise WorkersLost(
                "the Ray cluster does not answer any more (its own logs say why); what is finished "
                "is kept and the same command resumes"
            ) from error
        heard: list[tuple[int, Event]] = []
        for worker, stream in list(self._streams.items()):
            if stream in ready:
                try:
                    heard.append((worker, self._ray.get(next(stream))))
                except StopIteration:
                    del self._streams[worker]
                except self._ray.exceptions.RayActorError as error:
                    del self._streams[worker]
                    reason = " ".join(str(error).split())
                    heard.append((worker, ("dead", f"(a Ray actor) has died: {reason[-300:]}")))
        return heard

    def stop(self) -> None:
        """End the actors, and the cluster if it is ours."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._connected:
            self._ray.shutdown()

    def _stream(self, worker: int, method: str, *arguments: Any) -> Any:
        return (
            getattr(self._actors[worker], method)
            .options(num_returns="streaming")
            .remote(*arguments)
        )

    def _connect(self) -> None:
        options = {"logging_level": logging.ERROR, "log_to_driver": False}
        address = self._address or os.environ.get("RAY_ADDRESS")
        try:
            if address:
                _knock(address)
            self._ray.init(address=address or "auto", **options)
        except (OSError, ValueError) as error:
            if address:
                raise AlpsError(
                    f"no Ray cluster answers at {address}: {error}; start one (ray start --head), "
                    "or leave engine.address out for one on this machine"
                ) from error
            cpus = max(self._n, os.cpu_count() or 1)
            self._ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)


class RayWorker(Worker):
    """A `Worker` that finds files where the run finds them."""

    def __init__(self, threads: int, level: int, folder: str) -> None:
        os.chdir(folder)
        super().__init__(threads, level)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    try:
        with _own_sigterm():
            import ray
    except ImportError as error:
        raise MissingPackage(
            "engine=ray needs Ray: pip install ray, or label with engine=local"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "//" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def _environment() -> dict[str, str]:
    """What actors must know of this process: our own settings, and the threads of BLAS.

    Ray would give each a single thread, and sums of a matrix product round by their number.
    """
    own = {name: value for name, value in os.environ.items() if name.startswith("ALPS_")}
    return {**own, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))}


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray would put its own handler in place of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
