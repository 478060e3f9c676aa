"""Labelling by the actors of a Ray cluster, whose machines share the file system of the store.

An actor works like a process of `alps.labelling.engine.local` and writes identical files.
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

from alps.errors import AlpsError, MissingPackage, WorkersLost
from alps.labelling.engine.pool import WorkerPool
from alps.labelling.engine.rank import LauncherRank, read_rank
from alps.labelling.engine.worker import Event, Worker
from alps.labelling.limits import LIMITS
from alps.pretrained.device import PROCESSES_PER_GPU
from alps.protocols import TaskRunner
from alps.structures.settings import check_attributes

log = logging.getLogger(__name__)

#: Seconds without an actor after which a message is logged.
FIRST_ACTOR_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Process shards in the actors of a Ray cluster.

    Args:
        actors: number of actors. Each uses one CPU and, if the cluster has GPUs, a fraction of a
            GPU.
        address: address of a cluster. None: the cluster of RAY_ADDRESS or ``ray start`` or, if
            there is none, a new cluster on this machine that stops after the run.
        threads: CPU threads per actor, as for `alps.labelling.engine.local.LocalEngine`.

    Raises:
        ConfigError: ``actors`` or ``threads`` is not a positive integer.
        AlpsError: no cluster responds at the address.
    """

    actors: int = 2
    address: str | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.labelling.RayEngine"], self)

    @property
    def rank(self) -> LauncherRank:
        """Rank of this run among the runs that its launcher has started."""
        return read_rank()

    @contextmanager
    def workers(self) -> Iterator[TaskRunner]:
        """Provide a function that runs tasks; it connects to the cluster with the first item."""
        with WorkerPool(RayActors(self.actors, self.address, self.threads)) as pool:
            yield pool.run


class RayActors:
    """Actors of a Ray cluster; implements `alps.labelling.engine.pool.WorkerBackend`.

    Args:
        n: number of actors.
        address: address of the cluster; None: chosen as for `RayEngine`.
        threads: CPU threads per actor.
    """

    def __init__(self, n: int, address: str | None, threads: int) -> None:
        self._ray = _import_ray()
        self._n, self._address, self._threads = n, address, threads
        self._actors: list[Any] = []
        self._sent: tuple[bytes, Any] = (b"", None)
        self._streams: dict[int, Any] = {}
        self._connected = False
        self._timeout: float | None = FIRST_ACTOR_SECONDS  # None once the first actor has answered

    def start(self) -> int:
        """Connect and request all actors; each starts when the cluster has a free CPU for it."""
        ray = self._ray
        if not ray.is_initialized():
            with _restore_sigterm():
                self._connect()
            self._connected = True
        gpus = int(ray.cluster_resources().get("GPU", 0))
        actors_per_gpu = -(-self._n // gpus) if gpus else 0  # so that all actors fit on the GPUs
        actor = ray.remote(RayWorker).options(
            num_cpus=1,
            num_gpus=1 / actors_per_gpu if gpus else 0,
            runtime_env={"env_vars": _environment(actors_per_gpu)},
        )
        level = logging.getLogger("alps").getEffectiveLevel()
        for worker in range(self._n):
            self._actors.append(actor.remote(self._threads, level, str(Path.cwd())))
            self._streams[worker] = self._stream(worker, "report_ready")
        return self._n

    def send_task(self, worker: int, task: bytes) -> None:
        """Send the pickled task to an actor; it is uploaded to the cluster only once."""
        if self._sent[0] is not task:
            self._sent = task, self._ray.put(task)
        self._actors[worker].set_task.remote(self._sent[1])

    def send_item(self, worker: int, item: Any) -> None:
        """Send an item to an actor."""
        self._streams[worker] = self._stream(worker, "run", item)

    def receive(self) -> list[tuple[int, Event]]:
        """Wait for an event and return it with the index of its actor."""
        try:
            ready, _ = self._ray.wait(
                list(self._streams.values()), num_returns=1, timeout=self._timeout
            )
            if not ready:
                log.info(
                    "waiting for the Ray cluster: no actor has started after %d s; %d actors take "
                    "one CPU each (request fewer with engine.actors)",
                    *(FIRST_ACTOR_SECONDS, self._n),
                )
            self._timeout = None
        except SystemExit as error:  # raised by Ray when the cluster ends during a run
            raise WorkersLost(
                "the Ray cluster no longer responds (see its logs for the cause); repeat the "
                "command to resume; finished shards are kept"
            ) from error
        events: list[tuple[int, Event]] = []
        for worker, stream in list(self._streams.items()):
            if stream in ready:
                try:
                    events.append((worker, self._ray.get(next(stream))))
                except StopIteration:
                    del self._streams[worker]
                except self._ray.exceptions.RayActorError as error:
                    del self._streams[worker]
                    reason = " ".join(str(error).split())
                    events.append((worker, ("dead", f"(a Ray actor) has died: {reason[-300:]}")))
        return events

    def stop(self) -> None:
        """Kill the actors, and close the connection or cluster if this object opened it."""
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
                _check_server(address)
            self._ray.init(address=address or "auto", **options)
        except (OSError, ValueError) as error:
            if address:
                raise AlpsError(
                    f"no Ray cluster responds at {address}: {error}; start one (ray start --head), "
                    "or omit engine.address to start one on this machine"
                ) from error
            cpus = max(self._n, os.cpu_count() or 1)
            self._ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)


class RayWorker(Worker):
    """A `Worker` in the working directory of the run, so that relative paths are the same.

    Args:
        threads: CPU threads.
        level: minimum level of the log records to send.
        folder: working directory.
    """

    def __init__(self, threads: int, level: int, folder: str) -> None:
        os.chdir(folder)
        super().__init__(threads, level)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
    try:
        with _restore_sigterm():
            import ray
    except ImportError as error:
        raise MissingPackage(
            "engine=ray needs Ray: pip install ray, or label with engine=local"
        ) from error
    return ray


def _check_server(address: str) -> None:
    """Raise `OSError` if no server listens at the address; Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "//" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def _environment(actors_per_gpu: int) -> dict[str, str]:
    """Return the environment variables for actors: ALPS_* and OMP_NUM_THREADS.

    Ray sets one BLAS thread per actor by default, and the rounding of matrix products depends on
    the number of threads.
    """
    variables = {name: value for name, value in os.environ.items() if name.startswith("ALPS_")}
    return {
        **variables,
        **({PROCESSES_PER_GPU: str(actors_per_gpu)} if actors_per_gpu else {}),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
    }


@contextmanager
def _restore_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces, at the end of the context."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
