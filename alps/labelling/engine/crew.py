"""Distribution of work items to workers in other processes; items of a dead worker are retried."""

from __future__ import annotations

import logging
import pickle
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from alps.errors import ConfigError, PieceLost, WorkersLost
from alps.labelling.engine.worker import Event, Task

log = logging.getLogger(__name__)

#: Number of workers that may die on the same item before the item is taken for the cause.
DEATHS = 3


@runtime_checkable
class Hands(Protocol):
    """Interface to a number of workers, which are addressed by index."""

    def start(self) -> int:
        """Start all workers and return their number; each sends ``ready`` when it has started."""

    def keep(self, worker: int, task: bytes) -> None:
        """Send the pickled task for the items that follow."""

    def give(self, worker: int, item: Any) -> None:
        """Send an item to an idle worker."""

    def listen(self) -> list[tuple[int, Event]]:
        """Wait for events and return them with the indices of their workers."""

    def stop(self) -> None:
        """End all workers at once, which is safe because they write files atomically."""


class Crew:
    """A context of workers that start with the first item and live until the context ends.

    Args:
        hands: interface to the workers.
    """

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._alive: set[int] = set()
        self._idle: set[int] = set()
        self._keeps: dict[int, Task] = {}  # the task last sent to each worker
        self._pickled: tuple[Task, bytes] | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._alive:
            self._hands.stop()

    def run(self, task: Task, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Run ``task`` on every item in the workers.

        An item is requested from ``items`` only when a worker is idle. The same task object is
        sent only once to each worker.

        Args:
            task: function of an item.
            items: the items.

        Yields:
            (index of the item, value), in the order in which the values arrive.

        Raises:
            WorkersLost: all workers have died.
            PieceLost: `DEATHS` workers have died on the same item, or at least two including the
                last one alive.
            Exception: the task raised an exception in a worker.
        """
        pieces, again = enumerate(items), deque[tuple[int, Any]]()
        if not self._alive:
            if (first := next(pieces, None)) is None:
                return
            again.append(first)
            self._alive = set(range(self._hands.start()))
        busy: dict[int, tuple[int, Any]] = {}
        deaths: Counter[int] = Counter()  # of workers, by index of the item
        while True:
            for worker in sorted(self._idle):
                piece = again.popleft() if again else next(pieces, None)
                if piece is None:
                    break
                busy[worker] = piece
                self._give(worker, task, piece[1])
            if self._idle and not busy:
                return
            for worker, (kind, content) in self._hands.listen():
                if kind == "value":
                    yield busy[worker][0], content
                elif kind == "log":
                    logging.getLogger(content.name).handle(content)
                elif kind == "error":
                    raise content
                elif kind == "dead":
                    if worker in busy:
                        again.append(busy.pop(worker))
                        place = again[-1][0]
                        deaths[place] += 1
                        last = self._alive == {worker} and deaths[place] > 1
                        if last or deaths[place] == DEATHS:
                            raise PieceLost(place, content)
                    self._bury(worker, content)
                else:
                    busy.pop(worker, None)
                    self._idle.add(worker)

    def _give(self, worker: int, task: Task, item: Any) -> None:
        self._idle.discard(worker)
        if self._keeps.get(worker) is not task:
            if self._pickled is None or self._pickled[0] is not task:
                self._pickled = task, _pickle(task)
            self._hands.keep(worker, self._pickled[1])
            self._keeps[worker] = task
        self._hands.give(worker, item)

    def _bury(self, worker: int, why: str) -> None:
        self._alive.discard(worker)
        self._idle.discard(worker)
        if not self._alive:
            raise WorkersLost(
                f"no worker is left, the last one {why}; what is finished is kept and the same "
                "command resumes. Fewer workers (engine.processes, engine.actors) need less memory"
            )
        log.warning(
            "worker %d %s; another does again what it was at, %d go on",
            *(worker, why, len(self._alive)),
        )


def _pickle(task: Task) -> bytes:
    try:
        return pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the work cannot be sent to another process: {error}; define its classes in a module, "
            "or label in this process with engine=local engine.processes=1"
        ) from error
