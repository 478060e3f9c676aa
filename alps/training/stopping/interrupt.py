"""A callback that saves a checkpoint when a run is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException

from alps.errors import ImageError, LabelError
from alps.training.checkpoint import VALIDATION_DUE
from alps.training.lightning_private import (
    add_max_steps,
    run_validation,
    skip_signal_exchange,
    stop_after_step,
)

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

#: Signals that stop a run: Ctrl-C, SLURM's warning before a time limit, and SIGTERM.
STOPS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
#: Number of steps between two exchanges of signals by several GPUs; each exchange blocks.
PERIOD = 8


class Interrupt(Callback):
    """Write ``last.ckpt`` when a run is stopped by a signal or an unusable file.

    A handler only records that a signal has arrived. After each step (on several GPUs, every
    `PERIOD` steps) and each validation batch, the processes exchange their recorded signals, so
    that all stop at the same point. Lightning's handlers are replaced, because they call a
    collective operation at an arbitrary point of a step, which can deadlock. A second Ctrl-C stops
    at once and writes nothing. Handlers can be set in the main thread only; in other threads,
    signals are not recorded.

    The checkpoint records whether a validation was interrupted; the resumed run then starts with
    this validation. If only one of several processes reads an unusable file, the run stops without
    a checkpoint, because the remaining processes are blocked in a different collective.

    Args:
        folder: folder of ``last.ckpt``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.signal = 0  # the signal that stops all processes; 0: none
        self._received = 0  # the highest signal number that this process has received
        self._previous_handlers: dict[int, Handler] = {}
        self._mask: set[int] | None = None
        self._due = False
        self._finished = False
        self._scoring = False
        self._shared_batches = 0

    @property
    def exit_status(self) -> int:
        """Exit status for the signal by the convention of shells."""
        return 128 + self.signal

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read whether a validation is due."""
        self._due = checkpoint.get(VALIDATION_DUE, False)
        self._finished = checkpoint["global_step"] >= trainer.max_steps

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save whether a validation is due."""
        if self._due:
            checkpoint[VALIDATION_DUE] = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Block signals until this callback has replaced Lightning's handlers."""
        self.signal = self._received = 0
        skip_signal_exchange(trainer)
        self._previous_handlers = {signal.SIGUSR1: signal.getsignal(signal.SIGUSR1)}
        if _may_set_handlers():
            self._mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)}
        if self._due and self._finished:  # otherwise Lightning would not start the fit loop
            add_max_steps(trainer, 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, and run a validation that is due."""
        for number in STOPS if _may_set_handlers() else ():
            before = signal.getsignal(number)
            if number == signal.SIGUSR1 and before == self._previous_handlers[number]:
                continue  # Lightning has set no handler: not under SLURM
            self._previous_handlers[number] = before  # for on_exception
            signal.signal(number, self._record)
        self._unblock_signals()
        if self._due:
            if self._finished:
                add_max_steps(trainer, -1)
            run_validation(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after this step if a process has a signal; on several GPUs, every `PERIOD` steps."""
        check_every_step = trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu"
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and (
            check_every_step or trainer.global_step % PERIOD == 0
        ):
            self.signal = self._exchange_signals(trainer)
            stop_after_step(trainer, bool(self.signal))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the validation as due until it is scored."""
        if trainer.sanity_checking:
            return
        self._due = True
        if self.signal:
            raise SIGTERMException
        # Processes may have different numbers of batches; the last ones exchange no signals.
        self._shared_batches = _reduce(trainer, int(sum(trainer.num_val_batches)), "min")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that `WeightAveraging` may have swapped in the averaged weights."""
        self._scoring = True

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop in the middle of a validation if any process has a signal."""
        if self._shared_batches > 0:
            self._shared_batches -= 1
            self.signal = self._exchange_signals(trainer)
            if self.signal:
                raise SIGTERMException

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the validation as complete."""
        self._due = self._scoring = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint; after SLURM's warning, let Lightning's handler requeue the job."""
        self._unblock_signals()
        stopped = isinstance(exception, SIGTERMException)
        unusable = isinstance(exception, (ImageError, LabelError)) and trainer.world_size == 1
        if not (stopped or unusable):
            return
        if self._scoring:
            # Lightning sets the attribute without declaring it.
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):  # restores the trained weights
                    callback.on_validation_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self.path)
        requeue = self._previous_handlers.get(self.signal)
        if self.signal == signal.SIGUSR1 and callable(requeue):
            requeue(self.signal, None)

    def _record(self, number: int, _frame: FrameType | None) -> None:
        self._received = max(self._received, number)
        if number == signal.SIGINT:
            signal.signal(number, self._previous_handlers[number])

    def _exchange_signals(self, trainer: Trainer) -> int:
        """Return the highest signal number that any process has received."""
        return _reduce(trainer, self._received, "max")

    def _unblock_signals(self) -> None:
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None


def _may_set_handlers() -> bool:
    return threading.current_thread() is threading.main_thread()


def _reduce(trainer: Trainer, value: int, operation: str) -> int:
    if trainer.world_size == 1:
        return value
    tensor = torch.tensor(value, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(tensor, reduce_op=operation))
