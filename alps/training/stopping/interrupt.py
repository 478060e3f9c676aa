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
from alps.training.lightning_private import add_max_steps, run_validation, stop_after_step

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

#: Ctrl-C, SLURM's warning before it requeues a job, and the request to terminate.
STOPS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
#: Steps between two agreements of several GPUs, which wait for each other at each of them.
PERIOD = 8


class Interrupt(Callback):
    """Write ``last.ckpt`` when a run is stopped by Ctrl-C, SIGTERM or an unusable file.

    A signal is only recorded when it arrives. At the end of a step, and of each validation batch,
    the processes exchange the signals and stop at the same place. Lightning's own handlers start
    collectives wherever the signal interrupts a process, and these collide with the collectives
    of the step. A second Ctrl-C stops at once and writes nothing. Outside the main thread, where
    Python neither delivers signals nor lets their handlers be set, none are recorded.

    An interrupted validation is marked as due in the checkpoint, and the resuming run begins with
    it. If only one of several processes meets an unusable file, the run stops without a
    checkpoint, because the other processes are waiting elsewhere.

    Args:
        folder: folder of ``last.ckpt``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.signal = 0  # the signal on which all processes stop; 0: none
        self._received = 0  # the greatest signal that this process has received
        self._lightnings: dict[int, Handler] = {}
        self._mask: set[int] | None = None
        self._due = False
        self._finished = False
        self._scoring = False
        self._shared_batches = 0

    @property
    def exit_status(self) -> int:
        """Exit status by the shell's convention for a process ended by the signal."""
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
        """Block signals until Lightning has set its handlers and this callback replaces them."""
        self.signal = self._received = 0
        self._lightnings = {signal.SIGUSR1: signal.getsignal(signal.SIGUSR1)}
        if _may_set_handlers():
            self._mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)}
        if self._due and self._finished:  # otherwise Lightning would not start the fit loop
            add_max_steps(trainer, 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record signals from now on, and run a validation that is due."""
        for number in STOPS if _may_set_handlers() else ():
            before = signal.getsignal(number)
            if number == signal.SIGUSR1 and before == self._lightnings[number]:
                continue  # not under SLURM
            self._lightnings[number] = before  # Lightning restores the original at teardown
            signal.signal(number, self._note)
        self._let_signals_in()
        if self._due:
            if self._finished:
                add_max_steps(trainer, -1)
            run_validation(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree whether to stop after this step; on several GPUs only every `PERIOD` steps."""
        alone = trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu"
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and (
            alone or trainer.global_step % PERIOD == 0
        ):
            self.signal = self._agree(trainer)
            stop_after_step(trainer, bool(self.signal))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the validation as due until it is scored."""
        if trainer.sanity_checking:
            return
        self._due = True
        if self.signal:
            raise SIGTERMException
        # A process may have one batch more than the others, which would not join an agreement.
        self._shared_batches = _reduce(trainer, int(sum(trainer.num_val_batches)), "min")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that averaged weights may have replaced the trained ones."""
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
        """Agree whether to stop in the middle of a validation."""
        if self._shared_batches > 0:
            self._shared_batches -= 1
            self.signal = self._agree(trainer)
            if self.signal:
                raise SIGTERMException

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the validation as complete."""
        self._due = self._scoring = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint, and on SLURM's warning call Lightning's handler, which requeues."""
        self._let_signals_in()
        stopped = isinstance(exception, SIGTERMException)
        unusable = isinstance(exception, (ImageError, LabelError)) and trainer.world_size == 1
        if not (stopped or unusable):
            return
        if self._scoring:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):  # restores the trained weights
                    callback.on_validation_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self.path)
        requeue = self._lightnings.get(self.signal)
        if self.signal == signal.SIGUSR1 and callable(requeue):
            requeue(self.signal, None)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._received = max(self._received, number)
        if number == signal.SIGINT:
            signal.signal(number, self._lightnings[number])

    def _agree(self, trainer: Trainer) -> int:
        """Return the greatest signal that any process has received."""
        return _reduce(trainer, self._received, "max")

    def _let_signals_in(self) -> None:
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None


def _may_set_handlers() -> bool:
    return threading.current_thread() is threading.main_thread()


def _reduce(trainer: Trainer, value: int, how: str) -> int:
    if trainer.world_size == 1:
        return value
    tensor = torch.tensor(value, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(tensor, reduce_op=how))
