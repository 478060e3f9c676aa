"""Labelling in this process, or in several processes of this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch

from alps.labelling.engine.pool import WorkerPool
from alps.labelling.engine.rank import LauncherRank, read_rank
from alps.labelling.engine.worker import Event, Task, Worker, set_threads, task_values
from alps.labelling.limits import LIMITS
from alps.pretrained.device import PROCESSES_PER_GPU
from alps.protocols import TaskRunner
from alps.structures.settings import check_attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """Process shards in this process or in worker processes that it starts.

    Args:
        processes: number of processes. 1 uses this process, or one worker process if a launcher has
            assigned this run a GPU that is not the first visible one. "auto" is the number of
            visible GPUs, but 1 if there is no GPU or if a launcher has started several runs.
            Workers are distributed over the visible GPUs.
        threads: CPU threads per process: of mask sources, of the stage that finishes images, and of
            k-means. The results do not depend on it, because each item is computed by one thread.

    Raises:
        ConfigError: ``processes`` or ``threads`` is not a positive integer.
    """

    processes: int | Literal["auto"] = 1
    threads: int = 2

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.labelling.LocalEngine"], self)

    @property
    def rank(self) -> LauncherRank:
        """Rank of this run among the runs that its launcher has started."""
        return read_rank()

    @contextmanager
    def workers(self) -> Iterator[TaskRunner]:
        """Provide a function that runs tasks while the context is open."""
        rank, gpus = self.rank, _visible_gpus()
        if isinstance(self.processes, int):
            n = self.processes
        else:
            n = max(1, len(gpus)) if rank.world_size == 1 else 1
        worker_gpus = (
            [gpus[(rank.local_rank * n + r) % len(gpus)] for r in range(n)] if gpus else []
        )
        if n == 1 and worker_gpus == gpus[:1]:
            set_threads(self.threads)
            yield run_in_process
        else:
            with WorkerPool(LocalProcesses(n, self.threads, worker_gpus)) as pool:
                yield pool.run


def run_in_process(task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Run ``task`` on every item in this process, with the interface of `WorkerPool.run`."""
    for index, item in enumerate(items):
        for value in task_values(task(item)):
            yield index, value


class LocalProcesses:
    """Worker processes connected by pipes; implements `alps.labelling.engine.pool.WorkerBackend`.

    They are spawned rather than forked, because a fork of a process that has used PyTorch or faiss
    inherits locks that may be held and are then never released.

    Args:
        n: number of processes.
        threads: CPU threads per process.
        gpus: value of ``CUDA_VISIBLE_DEVICES`` for each process; empty: do not set it.
    """

    def __init__(self, n: int, threads: int, gpus: list[str]) -> None:
        self._n, self._threads, self._gpus = n, threads, gpus
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: dict[int, Connection] = {}

    def start(self) -> int:
        """Start all processes at once, because each takes seconds to import its libraries."""
        context = multiprocessing.get_context("spawn")
        level = logging.getLogger("alps").getEffectiveLevel()
        # The resource tracker unblocks these signals when it starts, so it is started first.
        resource_tracker.ensure_running()
        # Workers inherit the blocked signals, so only this process handles Ctrl-C and SIGTERM; it
        # then kills the workers.
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            for worker in range(self._n):
                parent_end, worker_end = context.Pipe()
                variables = self._gpu_variables(worker)
                process = context.Process(
                    target=serve, args=(worker_end, self._threads, level, variables), daemon=True
                )
                process.start()
                worker_end.close()  # so that recv raises EOFError when the worker dies
                self._processes.append(process)
                self._pipes[worker] = parent_end
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
        return self._n

    def send_task(self, worker: int, task: bytes) -> None:
        """Send the pickled task to a worker."""
        self._send(worker, ("task", task))

    def send_item(self, worker: int, item: Any) -> None:
        """Send an item to a worker."""
        self._send(worker, ("item", item))

    def receive(self) -> list[tuple[int, Event]]:
        """Wait for events and return at most one per worker."""
        events: list[tuple[int, Event]] = []
        ready = connection.wait(self._pipes.values())
        for worker, pipe in list(self._pipes.items()):
            if pipe in ready:
                try:
                    events.append((worker, pipe.recv()))
                except (EOFError, OSError):
                    events.append((worker, ("dead", self._remove(worker))))
        return events

    def stop(self) -> None:
        """Kill all processes; they write files atomically and have nothing to clean up."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _gpu_variables(self, worker: int) -> dict[str, str]:
        """Return the environment variables with the GPU of a worker and its number of processes."""
        if not self._gpus:
            return {}
        gpu = self._gpus[worker]
        return {"CUDA_VISIBLE_DEVICES": gpu, PROCESSES_PER_GPU: str(self._gpus.count(gpu))}

    def _send(self, worker: int, message: tuple[str, Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # receive() reports the dead worker
            self._pipes[worker].send(message)

    def _remove(self, worker: int) -> str:
        """Close the pipe of a dead worker and return why the worker has died."""
        self._pipes.pop(worker).close()
        process = self._processes[worker]
        process.join()
        code = process.exitcode or 0
        if code == -signal.SIGKILL:
            reason = "was killed (SIGKILL, often because memory ran out)"
        elif code < 0:
            reason = f"was terminated by {signal.Signals(-code).name}"
        else:
            reason = f"exited with status {code}"
        return f"(process {process.pid}) {reason}"


def serve(pipe: Connection, threads: int, level: int, variables: Mapping[str, str]) -> None:
    """Run a worker until the pipe is closed.

    Args:
        pipe: connection to the process that started the worker.
        threads: CPU threads.
        level: minimum level of the log records to send.
        variables: environment variables to set.
    """
    os.environ.update(variables)  # before CUDA is first used
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    worker = Worker(threads, level)
    handlers: dict[str, Callable[[Any], Iterator[Event] | None]]
    handlers = {"task": worker.set_task, "item": worker.run}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        for event in worker.report_ready():
            pipe.send(event)
        while True:
            kind, content = pipe.recv()
            for event in handlers[kind](content) or ():
                pipe.send(event)


def _exit_with_parent() -> None:
    """Exit as soon as the parent process has exited, even if it was killed during a long shard."""
    parent = parent_process()
    assert parent is not None, "this process was spawned"
    parent.join()
    os._exit(1)


def _visible_gpus() -> list[str]:
    """Return the visible GPUs as ids for CUDA_VISIBLE_DEVICES."""
    ids = os.environ.get("CUDA_VISIBLE_DEVICES")
    n = torch.cuda.device_count()
    return ids.split(",")[:n] if ids else [str(i) for i in range(n)]
