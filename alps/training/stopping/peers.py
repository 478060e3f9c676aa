"""End all processes of a run when one of them fails."""

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

#: Seconds between two checks of the other processes.
PERIOD = 0.2
#: Seconds that the first process gets to report an error common to all and to end the others.
FIRST = 1.0
#: Seconds to wait, after a failed collective, for the watcher to see which process has ended.
LOST = 5.0


@contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """End all processes of a run with status 1 if one of them fails within the context.

    Otherwise the others would wait for it in the next collective, possibly forever. Only one
    process reports the error. Processes that another launcher started (srun, torchrun) have to be
    ended by that launcher.

    Raises:
        SystemExit: Ctrl-C (130) or SIGTERM (143), before `Interrupt` handles these signals.
    """
    launcher = trainer.strategy.launcher
    if trainer.world_size == 1:
        yield
    elif isinstance(launcher, ProcessLauncher):
        with _leaving_on_signals(), _watching(launcher):
            yield
    else:
        try:
            yield
        except AlpsError:
            time.sleep(FIRST)
            raise


@contextmanager
def _watching(launcher: ProcessLauncher) -> Iterator[None]:
    over = Event()
    Thread(target=_watch, args=(launcher, over), daemon=True).start()
    try:
        yield
    except SIGTERMException:  # raised by all processes together
        raise
    except BaseException as error:
        if not isinstance(error, (AlpsError, SystemExit)):
            time.sleep(LOST)  # another process may have ended and made a collective fail here
        over.set()
        launcher.kill(signal.SIGKILL)
        raise
    finally:
        over.set()


def _watch(launcher: ProcessLauncher, over: Event) -> None:
    """End all processes when one has failed, including this one, which may ignore signals."""
    while not over.wait(PERIOD):
        for rank, process in enumerate(launcher.procs, 1):
            status = process.poll()
            if not status:
                continue
            if status < 0:  # otherwise it has printed its own error
                name = signal.Signals(-status).name
                sys.stderr.write(f"error: process {rank} of the run was ended by {name}\n")
            launcher.kill(signal.SIGKILL)
            sys.stdout.flush()
            os._exit(1)


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Exit normally on Ctrl-C and SIGTERM, so that the other processes are ended too."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
