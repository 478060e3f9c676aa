"""Termination of all processes of a run if one of them fails."""

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
from lightning.pytorch.utilities.exceptions import SIGTERMException

from alps.errors import AlpsError
from alps.training.lightning_private import ProcessLauncher

#: Seconds between two checks of the processes that this one has started.
PERIOD = 0.2
#: Seconds that the first process has to report an error that all processes raise.
REPORT_TIME = 1.0
#: Seconds to wait after an error, until `_watch` can report a process that has ended.
WATCH_TIME = 5.0


@contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """End all processes of a run with status 1 if one of them fails within the context.

    Otherwise the remaining processes would wait in the next collective, possibly forever. Only one
    process reports the error. Processes started by srun or torchrun must be ended by these
    programs.

    Raises:
        AlpsError: raised by the context; processes of srun and torchrun raise it with a delay.
        SystemExit: Ctrl-C (130) or SIGTERM (143) before `Interrupt` handles these signals.
    """
    launcher = trainer.strategy.launcher
    if trainer.world_size == 1:
        yield
    elif isinstance(launcher, ProcessLauncher):
        with _exiting_on_signals(), _watching(launcher):
            yield
    else:
        try:
            yield
        except AlpsError:
            time.sleep(REPORT_TIME)
            raise


@contextmanager
def _watching(launcher: ProcessLauncher) -> Iterator[None]:
    finished = Event()
    Thread(target=_watch, args=(launcher, finished), daemon=True).start()
    try:
        yield
    except SIGTERMException:  # raised by all processes together
        raise
    except BaseException as error:
        if not isinstance(error, (AlpsError, SystemExit)):
            time.sleep(WATCH_TIME)  # a process that has ended may have made a collective fail
        finished.set()
        launcher.kill(signal.SIGKILL)
        raise
    finally:
        finished.set()


def _watch(launcher: ProcessLauncher, finished: Event) -> None:
    """End all processes, including this one, when a process has failed."""
    while not finished.wait(PERIOD):
        for rank, process in enumerate(launcher.procs, 1):
            status = process.poll()
            if not status:
                continue
            if status < 0:  # with a positive status it has printed an error
                name = signal.Signals(-status).name
                sys.stderr.write(f"error: process {rank} of the run was ended by {name}\n")
            launcher.kill(signal.SIGKILL)
            sys.stdout.flush()
            os._exit(1)


@contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Raise `SystemExit` on Ctrl-C and SIGTERM, so that all processes are ended."""

    def exit_with_status(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    original = {
        number: signal.signal(number, exit_with_status)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in original.items():
            signal.signal(number, handler)
