"""The code of a worker process."""

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

from alps.errors import AlpsError

Task = Callable[[Any], Any]
#: Kind and content. ``ready``: the worker is idle. ``value``: a value of the item. ``done``: the
#: item has no more values. ``error``: the exception that the task raised. ``log``: a log record.
#: ``dead``: the reason why the worker has died.
Event = tuple[Literal["ready", "value", "done", "error", "log", "dead"], Any]


def set_threads(threads: int) -> None:
    """Set the number of threads of this process.

    PyTorch gets one thread, because mask sources and faiss are multi-threaded themselves.
    """
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(threads)


def task_values(result: Any) -> Iterator[Any]:
    """Yield the values of a task's result: those of a generator, or the result itself."""
    if isinstance(result, Generator):
        yield from result
    else:
        yield result


class Worker:
    """Process the items that an `alps.labelling.engine.pool.WorkerPool` sends, and report events.

    Args:
        threads: number of CPU threads.
        level: minimum level of the log records of ALPS to send. Log records of other libraries are
            sent above this level.
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

    def report_ready(self) -> Iterator[Event]:
        """Report that the worker has started and is idle."""
        yield "ready", None

    def set_task(self, task: bytes) -> None:
        """Store the pickled task that processes the next items."""
        self._pickled, self._task = task, None

    def run(self, item: Any) -> Iterator[Event]:
        """Run the task on one item and yield its events."""
        try:
            task = self._task
            if task is None:
                task = pickle.loads(self._pickled)  # noqa: S301 - from the process that started this worker
                self._task, self._pickled = task, b""
            for value in task_values(task(item)):
                yield from self._pending_logs()
                yield "value", value
            yield from self._pending_logs()
            yield "done", None
        except Exception as error:  # the process that started the worker raises it again
            yield from self._pending_logs()
            yield "error", _picklable(error)

    def _pending_logs(self) -> Iterator[Event]:
        while True:
            try:
                yield "log", self._records.get_nowait()
            except Empty:
                return


def _picklable(error: Exception) -> Exception:
    """Return an exception that can be pickled, with the traceback of this process."""
    if not isinstance(error, AlpsError):
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just written
    except Exception:  # unpickling fails if the constructor takes more arguments than the message
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
