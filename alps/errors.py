"""Errors a user can act on: what came, where, what was expected and what to do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class AlpsError(Exception):
    """Base of all errors that are shown to the user as one line, without a traceback."""


class ConfigError(AlpsError):
    """A configuration value is missing, unknown or contradicts another one."""


class CheckpointError(AlpsError):
    """A checkpoint is of another net, or cannot be read."""


class DatasetNotFound(AlpsError):
    """A dataset is not where the configuration says; the message says where to get it."""


class DivergedError(AlpsError):
    """The loss is not finite any more."""


class ImageError(AlpsError):
    """One image cannot be used; it is reported, counted and skipped."""


class LabelError(AlpsError):
    """A label contradicts its image or the classes: seldom one file alone, so the run stops."""


class MissingPackage(AlpsError):
    """An optional package is not installed; the message names the extra that brings it."""


class PromptError(AlpsError):
    """A prompt that SAM cannot answer for this image."""


class StoreError(AlpsError):
    """A label store cannot be read or written."""


class StoreMismatch(StoreError):
    """A label store was made with other settings than this run's; the message names the field."""


class TooFewMasks(AlpsError):
    """There are fewer masks than clusters asked for."""


class WeightsNotFound(AlpsError):
    """No source holds the weights asked for, or the file is not the one expected."""


class Unavailable(AlpsError):
    """Memory, a disk or a network failed: the same file may be read the next time."""


class WorkersLost(AlpsError):
    """All processes that did the work have died."""


class PieceLost(WorkersLost):
    """A piece of the work ends each process that does it.

    Args:
        place: of the piece among all.
        why: what became of the last process.
    """

    def __init__(self, place: int, why: str) -> None:
        super().__init__(
            f"piece {place} of the work has ended each worker at it, the last one {why}"
        )
        self.place, self.why = place, why


class Terminated(KeyboardInterrupt):
    """SIGTERM: what is at work is dropped as on Ctrl-C, and the exit status says why."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM becomes `Terminated` where it finds this thread, so that all is tidied up."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cannot_write(path: Path, error: OSError) -> str:
    """What to tell of a file of a store that could not be written."""
    return (
        f"cannot write {path}: {error.strerror or error}; free or permit the place, or choose "
        "another with store=DIR; what is finished is kept"
    )


@contextmanager
def one_line_errors(*config_errors: type[Exception], interrupted: str = "") -> Iterator[None]:
    """Show errors that a user can act on as one line on stderr and exit with status 1.

    Args:
        config_errors: the configuration library's own errors, treated like `AlpsError`.
        interrupted: what to tell after Ctrl-C or `Terminated`.

    Set ``ALPS_TRACEBACK=1`` to see the whole traceback. An interrupt exits with 130, SIGTERM with
    143; everything else is a fault of ours and keeps its traceback.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        what = "terminated" if terminated else "interrupted"
        sys.stderr.write(f"\n{what}{interrupted and ': '}{interrupted}\n")
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    except Exception as error:  # the classes are not known before; all others go on below
        if not isinstance(error, (AlpsError, *config_errors)):
            raise
        if os.environ.get("ALPS_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {explain(error)}\n")
        sys.exit(1)


def explain(error: Exception) -> str:
    """What an error says, in one line."""
    # Hydra wraps what a constructor raises; our own reason says more than the wrapping.
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, AlpsError):
        reason = reason.__cause__
    message = " ".join(str(reason or error).split())
    message = message.split(" Config search path:")[0]  # Hydra's, and of no use to a user
    if message.startswith("Caught "):  # in a loader's process, told with its traceback
        message = message.rpartition(f"{type(reason).__name__}: ")[2]
    return message
