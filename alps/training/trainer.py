"""Lightning's trainer with the callbacks of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

from alps.prediction.device import choose_accelerator, choose_precision
from alps.training.callbacks import LearningRates, Pictures, ProgressBar, ScoreLines, Speed
from alps.training.sync_norm import SyncBatchNorm


def build_trainer(
    trainer: Callable[..., Trainer],
    *,
    run: str | Path,
    callbacks: Sequence[Callback],
    logger: Logger | None = None,
    accelerator: str = "auto",
    precision: str = "auto",
    interval: int = 1,
    accumulate_grad_batches: int = 1,
    log_every_n_steps: int = 10,
    sync_batchnorm: bool = False,
) -> Trainer:
    """Return Lightning's trainer for a run.

    Args:
        trainer: callable that builds the trainer, such as a partial of Lightning's class.
        run: folder of the run.
        callbacks: callbacks of the run.
        logger: logger of the curves.
        accelerator: ``auto``, ``cpu``, ``gpu`` or any accelerator of Lightning.
        precision: ``auto`` or a precision of Lightning.
        interval: number of steps between two validations.
        accumulate_grad_batches: number of batches per step.
        log_every_n_steps: maximum number of steps between two logged values.
        sync_batchnorm: whether batch norms use the statistics of all processes; ignored on CPUs.

    Raises:
        ConfigError: a GPU is requested, but there is none.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # lower levels include advertisements
    accelerator = choose_accelerator(accelerator)
    synchronised = sync_batchnorm and accelerator != "cpu"
    return trainer(
        accelerator=accelerator,
        precision=choose_precision(precision, accelerator),
        sync_batchnorm=False,  # torch's conversion drops activations of timm's models
        plugins=[SyncBatchNorm()] if synchronised else None,
        accumulate_grad_batches=accumulate_grad_batches,
        val_check_interval=interval * accumulate_grad_batches,
        log_every_n_steps=min(interval, log_every_n_steps),
        default_root_dir=run,
        logger=logger or False,
        callbacks=list(callbacks),
    )


def default_callbacks(run: Path) -> list[Callback]:
    """Return the callbacks of conf/callbacks/default.yaml."""
    return [
        ModelCheckpoint(
            dirpath=run,
            filename="best",
            monitor="val/mIoU",
            mode="max",
            auto_insert_metric_name=False,
            enable_version_counter=False,
        ),
        # Written after every validation; save_last would write it only with a new best.ckpt.
        ModelCheckpoint(dirpath=run, filename="last", enable_version_counter=False),
        LearningRates(),
        Speed(),
        ProgressBar(),
        ScoreLines(),
        Pictures(str(run / "pictures")),
    ]
