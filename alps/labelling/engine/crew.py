"""Pieces of work given to workers in other processes, and given again when a worker dies."""

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

#: Workers that may die at one piece of work before it is taken for the reason.
DEATHS = 3


@runtime_checkable
class Hands(Protocol):
    """Workers by their number, wherever they run."""

    def start(self) -> int:
        """Begin them all; returns how many. Each is ``ready`` when it says so."""

    def keep(self, worker: int, task: bytes) -> None:
        """Give the pickled task of the pieces that follow."""

    def give(self, worker: int, item: Any) -> None:
        """Give a piece to a worker that waits for one."""

    def listen(self) -> list[tuple[int, Event]]:
        """What workers say; waits until one says something."""

    def stop(self) -> None:
        """End them, whatever they are at: what they write appears whole or not at all."""


class Crew:
    """Workers that are begun at the first piece of work and kept until the end."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._alive: set[int] = set()
        self._idle: set[int] = set()
        self._keeps: dict[int, Task] = {}  # what each has been sent
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
        """Do ``task`` for every item; yields (place of the item, value) as the values come.

        Items are asked for when a worker is free, not before. A task is sent once to each worker,
        as long as it is the same object.

        Raises:
            WorkersLost: all workers have died.
            PieceLost: `DEATHS` workers, or two and the last, have died at the same piece.
            Exception: what the task raised, whatever the worker.
        """
        pieces, again = enumerate(items), deque[tuple[int, Any]]()
        if not self._alive:
            if (first := next(pieces, None)) is None:
                return
            again.append(first)
            self._alive = set(range(self._hands.start()))
        busy: dict[int, tuple[int, Any]] = {}
        deaths: Counter[int] = Counter()  # of workers, by place
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
