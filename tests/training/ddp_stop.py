"""Disturb runs of two processes: `python -m tests.training.ddp_stop FOLDER WHAT-WHEN-RANKS ...`.

WHAT is a signal that these ranks send themselves, or a file that they cannot use; WHEN is ``step``
(the third) or ``validation`` (that after step 4). Each run that a signal stopped is resumed. A
program of its own, since Lightning starts the other process by running it again.
"""

import os
import signal
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from alps.errors import ImageError, one_line_errors
from alps.training.checkpoint import read_checkpoint
from alps.training.runs import RunStopped, fit
from tests.training.tiny_runs import ColoredBlocks, tiny_data, tiny_task, tiny_trainer


class Disturb(Callback):
    """Sends the signal, or raises, in the middle of a step or of a validation."""

    def __init__(self, what: str, when: str = "", ranks: str = "") -> None:
        self.what, self.when, self.ranks = what, when, ranks

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.when == "step" and batch_idx == 2:
            self._disturb(str(trainer.global_rank))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.when == "validation" and trainer.global_step == 4 and batch_idx == 0:
            self._disturb(str(trainer.global_rank))

    def _disturb(self, rank: str) -> None:
        if rank not in self.ranks:
            return
        if self.what == "file":
            raise ImageError(f"an image of process {rank} is gone")
        os.kill(os.getpid(), signal.Signals[self.what])


def run(folder: Path, disturb: Disturb, resume: str | None = None) -> None:
    images = ColoredBlocks(n=13, val=5)  # three to validate in the first process, two in the other
    task = tiny_task(images, encoder="test_convnext", dropout=0.0)
    checkpoint = ModelCheckpoint(
        folder, "best", monitor="val/mIoU", mode="max", save_last=True, enable_version_counter=False
    )
    trainer = tiny_trainer(
        folder, steps=6, callbacks=[checkpoint, disturb], devices=2, strategy="ddp"
    )
    data = tiny_data(images, batch_size=1)
    fit(task, data, trainer, run=folder, config={}, resume=resume)
    if trainer.is_global_zero:
        torch.save(task.model.state_dict(), folder / "weights.pt")


def main(folder: Path, *names: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in names:
        last = folder / name / "last.ckpt"
        try:
            run(folder / name, Disturb(*name.split("-")))
        except RunStopped as stopped:
            if stopped.rank == 0:
                line = f"{stopped.status} {read_checkpoint(last).step}"
                (folder / name / "stopped").write_text(line)
            run(folder / name, Disturb("nothing"), resume=str(last))


if __name__ == "__main__":
    with one_line_errors():
        main(Path(sys.argv[1]), *sys.argv[2:])
