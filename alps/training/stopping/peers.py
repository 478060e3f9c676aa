"""The processes of a run end together."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType
from typing import NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException

from alps.errors import AlpsError

#: Seconds between two looks at the other processes.
PERIOD = 0.2
#: Seconds in which the first process tells of what fails in all alike, and ends the others.
FIRST = 1.0
#: Seconds in which a process that others have lost is seen to have ended.
LOST = 5.0


@contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """While a run lasts: where one of its processes fails, all end, with status 1.

    The others would wait for it in the next collective, some for ever. Only one process tells
    what happened. Of processes that something else than Lightning started (srun, torchrun), that
    one has to end the others.

    Raises:
        SystemExit: Ctrl-C (130) or SIGTERM (143), before training begins to listen to them.
    """
    launcher = trainer.strategy.launcher
    if trainer.world_size == 1:
        yield
    elif isinstance(launcher, _SubprocessScriptLauncher):
        with _leaving_on_signals(), _watching(launcher):
            yield
    else:
        try:
            yield
        except AlpsError:
            time.sleep(FIRST)
            raise


@contextmanager
def _watching(launcher: _SubprocessScriptLauncher) -> Iterator[None]:
    over = Event()
    Thread(target=_watch, args=(launcher, over), daemon=True).start()
    try:
        yield
    except SIGTERMException:  # in all of them
        raise
    except BaseException as error:
        if not isinstance(error, (AlpsError, SystemExit)):
            time.sleep(LOST)  # a process that has ended is a failed collective here
        over.set()
        launcher.kill(signal.SIGKILL)
        raise
    finally:
        over.set()


def _watch(launcher: _SubprocessScriptLauncher, over: Event) -> None:
    """End all, this process included, when one has failed: it may wait where no signal helps."""
    while not over.wait(PERIOD):
        for rank, process in enumerate(launcher.procs, 1):
            status = process.poll()
            if not status:
                continue
            if status < 0:  # else it has spoken for itself
                name = signal.Signals(-status).name
                sys.stderr.write(f"error: process {rank} of the run was ended by {name}\n")
            launcher.kill(signal.SIGKILL)
            sys.stdout.flush()
            os._exit(1)


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM tidy up, where they would leave the other processes waiting."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
