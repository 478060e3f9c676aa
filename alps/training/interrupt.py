"""Runs that are stopped keep what they have learnt."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from alps.errors import ImageError, LabelError


class Interrupt(Callback):
    """Write ``last.ckpt`` when a run is stopped by Ctrl-C, by SIGTERM, or by a file it cannot use.

    Lightning ends the step that is under way before it gives in to SIGTERM. Ctrl-C is turned into
    one, so that what is written is a whole step; a second Ctrl-C stops at once and writes nothing.

    Args:
        folder: where ``last.ckpt`` lies.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "last.ckpt"
        self.exit_status = 128 + signal.SIGTERM

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Catch Ctrl-C."""
        before = signal.getsignal(signal.SIGINT)

        def soften(_number: int, _frame: FrameType | None) -> None:
            self.exit_status = 128 + signal.SIGINT
            signal.signal(signal.SIGINT, before)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGINT, soften)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint."""
        if isinstance(exception, (SIGTERMException, ImageError, LabelError)):
            trainer.save_checkpoint(self.path)
