"""Labelling in this process, or in several processes of this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch

from alps.labelling.engine.crew import Crew
from alps.labelling.engine.place import Place, find_place
from alps.labelling.engine.worker import Event, Task, Worker, set_threads, values
from alps.labelling.limits import LIMITS
from alps.protocols import Run
from alps.structures.settings import check_attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """Process shards in this process or in worker processes that it starts.

    Args:
        processes: number of processes, where 1 is this process itself; "auto" is one per GPU, or 1
            without a GPU or if a launcher has started several runs. Worker r uses GPU r.
        threads: CPU threads per process, used by mask sources and k-means. The number does not
            change the results, because each part of the work is computed by a single thread.

    Raises:
        ConfigError: ``processes`` or ``threads`` is not a positive integer.
    """

    processes: int | Literal["auto"] = 1
    threads: int = 2

    def __post_init__(self) -> None:
        check_attributes(LIMITS["alps.labelling.LocalEngine"], self)

    @property
    def place(self) -> Place:
        """Rank of this run among those that a launcher has started."""
        return find_place()

    @contextmanager
    def workers(self) -> Iterator[Run]:
        """Provide a function that runs tasks while the context is open."""
        place, gpus = self.place, _visible_gpus()
        if isinstance(self.processes, int):
            n = self.processes
        else:
            n = max(1, len(gpus)) if place.world == 1 else 1
        own = [gpus[(place.local_rank * n + r) % len(gpus)] for r in range(n)] if gpus else []
        if n == 1 and own == gpus[:1]:
            set_threads(self.threads)
            yield run_here
        else:
            with Crew(Processes(n, self.threads, own)) as crew:
                yield crew.run


def run_here(task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Run ``task`` on every item in this process, with the interface of `Crew.run`."""
    for place, item in enumerate(items):
        for value in values(task(item)):
            yield place, value


class Processes:
    """Worker processes connected by pipes; implements `alps.labelling.engine.crew.Hands`.

    They are spawned rather than forked, because a fork of a process that has used PyTorch or faiss
    would inherit locked locks.

    Args:
        n: number of processes.
        threads: CPU threads per process.
        gpus: name of the GPU of each process; empty for none.
    """

    def __init__(self, n: int, threads: int, gpus: list[str]) -> None:
        self._n, self._threads, self._gpus = n, threads, gpus
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: dict[int, Connection] = {}

    def start(self) -> int:
        """Start all processes at once, because each takes seconds to import its libraries."""
        context = multiprocessing.get_context("spawn")
        level = logging.getLogger("alps").getEffectiveLevel()
        resource_tracker.ensure_running()  # started later, it would undo the mask
        # Only this process handles Ctrl-C and SIGTERM: it ends the workers, which inherit the mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            for worker in range(self._n):
                ours, theirs = context.Pipe()
                gpu = self._gpus[worker] if self._gpus else None
                process = context.Process(
                    target=serve, args=(theirs, self._threads, level, gpu), daemon=True
                )
                process.start()
                theirs.close()  # so that the pipe ends with the process
                self._processes.append(process)
                self._pipes[worker] = ours
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._n

    def keep(self, worker: int, task: bytes) -> None:
        """Send the pickled task to a worker."""
        self._send(worker, ("keep", task))

    def give(self, worker: int, item: Any) -> None:
        """Send an item to a worker."""
        self._send(worker, ("do", item))

    def listen(self) -> list[tuple[int, Event]]:
        """Wait for events and return at most one per worker."""
        heard: list[tuple[int, Event]] = []
        ready = connection.wait(self._pipes.values())
        for worker, pipe in list(self._pipes.items()):
            if pipe in ready:
                try:
                    heard.append((worker, pipe.recv()))
                except (EOFError, OSError):
                    heard.append((worker, ("dead", self._end(worker))))
        return heard

    def stop(self) -> None:
        """Kill all processes, which have nothing to clean up."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _send(self, worker: int, message: tuple[str, Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # listen() reports the dead worker
            self._pipes[worker].send(message)

    def _end(self, worker: int) -> str:
        self._pipes.pop(worker).close()
        process = self._processes[worker]
        process.join()
        code = process.exitcode or 0
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL, often for want of memory)"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with status {code}"
        return f"(process {process.pid}) {how}"


def serve(pipe: Connection, threads: int, level: int, gpu: str | None) -> None:
    """Run a worker until the pipe is closed.

    Args:
        pipe: connection to the process that started the worker.
        threads: CPU threads.
        level: level of the log records to send.
        gpu: value of ``CUDA_VISIBLE_DEVICES``; None: unchanged.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before CUDA is first used
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(threads, level)
    do: dict[str, Callable[[Any], Iterator[Event] | None]]
    do = {"keep": worker.keep, "do": worker.do}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        for event in worker.greet():
            pipe.send(event)
        while True:
            kind, content = pipe.recv()
            for event in do[kind](content) or ():
                pipe.send(event)


def _end_with_parent() -> None:
    """Exit as soon as the parent has ended, even if it was killed during a long shard."""
    parent = parent_process()
    assert parent is not None, "this process was spawned"
    parent.join()
    os._exit(1)


def _visible_gpus() -> list[str]:
    """Return the names of the visible GPUs, as CUDA_VISIBLE_DEVICES lists them."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    n = torch.cuda.device_count()
    return names.split(",")[:n] if names else [str(i) for i in range(n)]
