"""Exceptions that users can act on, and how they are reported.

A message says what was wrong and where, what was expected, and what to do about it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class AlpsError(Exception):
    """Base class of the errors that are reported as one line, without a traceback."""


class ConfigError(AlpsError):
    """A configuration value is missing, unknown, or inconsistent with the rest of the settings."""


class CheckpointError(AlpsError):
    """A checkpoint cannot be read or does not match the network."""


class DatasetNotFound(AlpsError):
    """A dataset is not at the configured path; the message says where to get it."""


class DivergedError(AlpsError):
    """The loss is no longer finite."""


class ImageError(AlpsError):
    """An image cannot be used: labelling reports, counts and skips it, training stops."""


class LabelError(AlpsError):
    """A label contradicts its image or the classes.

    The run stops, because such an error usually affects many files.
    """


class MissingPackage(AlpsError):
    """An optional package is not installed; the message names the extra that installs it."""


class PromptError(AlpsError):
    """A prompt is not valid for its image."""


class StoreError(AlpsError):
    """A label store cannot be read or written."""


class StoreMismatch(StoreError):
    """A label store was made with settings that differ from this run's; the message names them."""


class TooFewMasks(AlpsError):
    """There are fewer masks than requested clusters."""


class WeightsNotFound(AlpsError):
    """No source provides the requested weights, or their file is not valid."""


class Unavailable(AlpsError):
    """Memory, a disk or the network failed; reading the file again may succeed."""


class WorkersLost(AlpsError):
    """All worker processes have died."""


class ItemCrashed(WorkersLost):
    """One item of work crashed every worker process that attempted it.

    Args:
        index: index of the item.
        why: how the last process crashed.
    """

    def __init__(self, index: int, why: str) -> None:
        super().__init__(
            f"item {index} crashed every worker process that attempted it; the last one {why}"
        )
        self.index, self.why = index, why


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; work in progress is dropped, as on Ctrl-C."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` in the main thread on SIGTERM, so that cleanup code runs."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cannot_write(path: Path, error: OSError) -> str:
    """Return the message for a file of a label store that cannot be written."""
    return (
        f"cannot write {path}: {error.strerror or error}; free disk space or fix the "
        "permissions, or choose another folder with store=DIR; finished shards are kept"
    )


@contextmanager
def one_line_errors(*config_errors: type[Exception], interrupted: str = "") -> Iterator[None]:
    """Print errors that users can act on as one line on stderr and exit with status 1.

    With ``ALPS_TRACEBACK=1`` the traceback is printed as well. Ctrl-C exits with status 130 and
    SIGTERM with 143. All other exceptions are bugs and keep their traceback.

    Args:
        config_errors: exceptions of the configuration library, handled like `AlpsError`.
        interrupted: message to print after Ctrl-C or `Terminated`.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        what = "terminated" if terminated else "interrupted"
        sys.stderr.write(f"\n{what}{interrupted and ': '}{interrupted}\n")
        sys.exit(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    except Exception as error:  # config_errors vary, so the class is checked here
        if not isinstance(error, (AlpsError, *config_errors)):
            raise
        if os.environ.get("ALPS_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {explain(error)}\n")
        sys.exit(1)


def explain(error: Exception) -> str:
    """Return the message of an error as one line."""
    # Hydra wraps exceptions of constructors; the wrapped AlpsError has the better message.
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, AlpsError):
        reason = reason.__cause__
    message = " ".join(str(reason or error).split())
    message = message.split(" Config search path:")[0]  # added by Hydra; of no use to users
    if message.startswith("Caught "):  # DataLoader workers prepend their traceback
        message = message.rpartition(f"{type(reason).__name__}: ")[2]
    return message
