"""Runs of the tiny task, which keep checkpoints."""

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint

from tests.training.tiny_runs import (
    Losses,
    tiny_data,
    tiny_task,
    tiny_trainer,
)


def checkpoint(folder: Path, **options) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder,
        filename="best",
        monitor="val/mIoU",
        mode="max",
        save_last=True,
        enable_version_counter=False,
        **options,
    )


def weights(task):
    return {name: value.clone() for name, value in task.model.state_dict().items()}


def fit(folder, steps, *, callbacks=(), resume=None, **options):
    task, losses = tiny_task(), Losses()
    trainer = tiny_trainer(folder, steps, [losses, checkpoint(folder), *callbacks], **options)
    trainer.fit(task, datamodule=tiny_data(), ckpt_path=resume, weights_only=True)
    return task, losses.values


class StopAfter(Losses):
    """End a run as a kill would: after a step, and nothing is written any more."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        trainer.should_stop = trainer.global_step >= self.step
