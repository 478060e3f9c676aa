"""Distribution of items to worker processes; items of a dead worker are retried."""

from __future__ import annotations

import logging
import pickle
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from alps.errors import ConfigError, ItemCrashed, WorkersLost
from alps.labelling.engine.worker import Event, Task

log = logging.getLogger(__name__)

#: Number of workers that die on the same item before the run stops with an error.
DEATHS = 3


@runtime_checkable
class WorkerBackend(Protocol):
    """Interface to workers that are addressed by index."""

    def start(self) -> int:
        """Start all workers and return their number; each sends ``ready`` when it has started."""

    def send_task(self, worker: int, task: bytes) -> None:
        """Send the pickled task that processes the next items."""

    def send_item(self, worker: int, item: Any) -> None:
        """Send an item to an idle worker."""

    def receive(self) -> list[tuple[int, Event]]:
        """Wait for events and return them with the indices of their workers."""

    def stop(self) -> None:
        """Kill all workers, which is safe because they write files atomically."""


class WorkerPool:
    """Context manager of workers: they start with the first item and are killed on exit.

    Args:
        backend: interface to the workers.
    """

    def __init__(self, backend: WorkerBackend) -> None:
        self._backend = backend
        self._alive: set[int] = set()
        self._idle: set[int] = set()
        self._sent_task: dict[int, Task] = {}  # last task sent to each worker
        self._pickled: tuple[Task, bytes] | None = None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._alive:
            self._backend.stop()

    def run(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Run ``task`` on every item in the workers.

        ``items`` is advanced only when a worker is idle. A task object is sent only once to each
        worker.

        Args:
            task: function of an item.
            items: the items.

        Yields:
            (index of the item, value), in the order in which the values arrive.

        Raises:
            WorkersLost: all workers have died.
            ItemCrashed: `DEATHS` workers have died on the same item, or at least two and no worker
                is left.
            Exception: the task raised an exception in a worker.
        """
        pending, retries = enumerate(items), deque[tuple[int, Any]]()
        if not self._alive:
            if (first := next(pending, None)) is None:
                return
            retries.append(first)
            self._alive = set(range(self._backend.start()))
        busy: dict[int, tuple[int, Any]] = {}
        deaths: Counter[int] = Counter()  # number of dead workers by index of the item
        while True:
            for worker in sorted(self._idle):
                entry = retries.popleft() if retries else next(pending, None)
                if entry is None:
                    break
                busy[worker] = entry
                self._send(worker, task, entry[1])
            if self._idle and not busy:
                return
            for worker, (kind, content) in self._backend.receive():
                if kind == "value":
                    yield busy[worker][0], content
                elif kind == "log":
                    logging.getLogger(content.name).handle(content)
                elif kind == "error":
                    raise content
                elif kind == "dead":
                    if worker in busy:
                        retries.append(busy.pop(worker))
                        index = retries[-1][0]
                        deaths[index] += 1
                        is_last = self._alive == {worker} and deaths[index] > 1
                        if is_last or deaths[index] == DEATHS:
                            raise ItemCrashed(index, content)
                    self._remove(worker, content)
                else:
                    busy.pop(worker, None)
                    self._idle.add(worker)

    def _send(self, worker: int, task: Task, item: Any) -> None:
        self._idle.discard(worker)
        if self._sent_task.get(worker) is not task:
            if self._pickled is None or self._pickled[0] is not task:
                self._pickled = task, _pickle(task)
            self._backend.send_task(worker, self._pickled[1])
            self._sent_task[worker] = task
        self._backend.send_item(worker, item)

    def _remove(self, worker: int, reason: str) -> None:
        self._alive.discard(worker)
        self._idle.discard(worker)
        if not self._alive:
            raise WorkersLost(
                f"all workers have died, the last one {reason}; if memory ran out, use fewer "
                "workers (engine.processes, engine.actors); repeat the command to resume; finished "
                "shards are kept"
            )
        log.warning(
            "worker %d %s; another worker repeats its item (%d workers remaining)",
            *(worker, reason, len(self._alive)),
        )


def _pickle(task: Task) -> bytes:
    try:
        return pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the task cannot be sent to another process: {error}; define its classes in a module, "
            "or label in this process with engine=local engine.processes=1"
        ) from error
