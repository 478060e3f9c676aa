"""Runs that are stopped keep what they have learnt."""

from __future__ import annotations

import signal
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

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

#: Ctrl-C, SLURM's warning before it requeues a job, the request to end.
STOPS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
#: Steps of several GPUs between two agreements, for each of which these wait.
PERIOD = 8


class Interrupt(Callback):
    """Write ``last.ckpt`` when a run is stopped by Ctrl-C, by SIGTERM, or by a file it cannot use.

    A signal is only noted where it arrives. At the end of a step, and of each batch of a
    validation, the processes tell each other and stop at the same place: Lightning's own handlers
    start collectives wherever the signal finds a process, and these meet those of the step. A
    second Ctrl-C stops at once and writes nothing.

    A validation that was stopped is due: the checkpoint says so, and the run that resumes begins
    with it. A file that only one of several processes cannot use stops the run without a
    checkpoint, for the others wait elsewhere.

    Args:
        folder: where ``last.ckpt`` lies.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.signal = 0  # for which all processes stop
        self._received = 0  # by this one
        self._lightnings: dict[int, Handler] = {}
        self._mask: set[int] | None = None
        self._due = False
        self._finished = False
        self._scoring = False
        self._shared_batches = 0

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that such a signal ended."""
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
        """Tell that a validation is due."""
        if self._due:
            checkpoint[VALIDATION_DUE] = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put signals off: Lightning is about to set its handlers, and this one comes after."""
        self.signal = self._received = 0
        self._lightnings = {signal.SIGUSR1: signal.getsignal(signal.SIGUSR1)}
        self._mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)}
        if self._due and self._finished:  # else Lightning would not begin
            trainer.fit_loop.epoch_loop.max_steps += 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note signals from now on; make up for a validation that was stopped."""
        for number in STOPS:
            before = signal.getsignal(number)
            if number == signal.SIGUSR1 and before == self._lightnings[number]:
                continue  # no SLURM
            self._lightnings[number] = before  # which Lightning's teardown replaces by the first
            signal.signal(number, self._note)
        self._let_signals_in()
        if self._due:
            if self._finished:
                trainer.fit_loop.epoch_loop.max_steps -= 1
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation.restarting = False  # none of its images counts yet
            trainer.validating = True
            validation.run()
            trainer.training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree whether to stop after this step; several GPUs do after every `PERIOD`-th."""
        alone = trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu"
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and (
            alone or trainer.global_step % PERIOD == 0
        ):
            self.signal = self._agree(trainer)
            # Lightning finishes the step, with what is logged of it, before it gives in.
            trainer._signal_connector.received_sigterm = bool(self.signal)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on the validation is due, until it is scored."""
        if trainer.sanity_checking:
            return
        self._due = True
        if self.signal:
            raise SIGTERMException
        # Processes may differ by a batch, and who has one more finds nobody to agree with.
        self._shared_batches = _reduce(trainer, int(sum(trainer.num_val_batches)), "min")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know whether averaged weights stand in for the others."""
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
        """What is saved from here on has its score."""
        self._due = self._scoring = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint; SLURM's warning makes Lightning write its own, too, and requeue."""
        self._let_signals_in()
        stopped = isinstance(exception, SIGTERMException)
        unusable = isinstance(exception, (ImageError, LabelError)) and trainer.world_size == 1
        if not (stopped or unusable):
            return
        if self._scoring:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):  # takes its weights back
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
        """The greatest signal that any process has received."""
        return _reduce(trainer, self._received, "max")

    def _let_signals_in(self) -> None:
        if self._mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._mask = None


def _reduce(trainer: Trainer, value: int, how: str) -> int:
    if trainer.world_size == 1:
        return value
    tensor = torch.tensor(value, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(tensor, reduce_op=how))
