"""What runs in another process: keeps one task, does its pieces, tells what happens."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Generator, Iterator
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue
from typing import Any, Literal

import faiss
import torch

from alps.errors import AlpsError, ConfigError

Task = Callable[[Any], Any]
#: ``ready``: may be given a piece. ``value``: of the piece, ``done``: it has no more. ``error``:
#: what the task raised. ``log``: a record. ``dead``: why there will be no more events.
Event = tuple[Literal["ready", "value", "done", "error", "log", "dead"], Any]


def check_threads(threads: object) -> None:
    """Raise `ConfigError` where it is no number of threads."""
    if not (isinstance(threads, int) and threads > 0):
        raise ConfigError(f"engine.threads={threads}: expected 1 or more")


def set_threads(threads: int) -> None:
    """Of this process: PyTorch's own would only wait for those of the mask sources and faiss."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(threads)


def values(result: Any) -> Iterator[Any]:
    """What a task gives for a piece: one value, or all that a generator yields."""
    if isinstance(result, Generator):
        yield from result
    else:
        yield result


class Worker:
    """The other end of `alps.labelling.engine.crew.Crew`.

    Args:
        threads: CPU threads.
        level: of our log records that are worth sending; of others' those from warnings up are.
    """

    def __init__(self, threads: int, level: int) -> None:
        set_threads(threads)
        self._pickled: bytes = b""
        self._task: Task | None = None
        self._records: SimpleQueue[logging.LogRecord] = SimpleQueue()
        handler = QueueHandler(self._records)
        handler.addFilter(lambda record: record.name.startswith("alps") or record.levelno > level)
        logging.getLogger().addHandler(handler)
        logging.getLogger("alps").setLevel(level)

    def greet(self) -> Iterator[Event]:
        """Say that all is imported."""
        yield "ready", None

    def keep(self, task: bytes) -> None:
        """The task of the pieces that come, pickled."""
        self._pickled, self._task = task, None

    def do(self, item: Any) -> Iterator[Event]:
        """One piece."""
        try:
            task = self._task
            if task is None:
                task = pickle.loads(self._pickled)  # noqa: S301 - from the process that began us
                self._task, self._pickled = task, b""
            for value in values(task(item)):
                yield from self._logged()
                yield "value", value
            yield from self._logged()
            yield "done", None
        except Exception as error:  # it ends the run: the other process raises it
            yield from self._logged()
            yield "error", _portable(error)

    def _logged(self) -> Iterator[Event]:
        while True:
            try:
                yield "log", self._records.get_nowait()
            except Empty:
                return


def _portable(error: Exception) -> Exception:
    """The error as another process can raise it."""
    if not isinstance(error, AlpsError):
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just written
    except Exception:  # whatever an error's own constructor asks for
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
