"""Callbacks that report speed, scores and pictures during training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from rich import get_console

from alps.datasets.segmentation import Batch
from alps.training.lightning_private import count_averages_on_cpu, logs_step
from alps.training.pictures import sheet
from alps.training.subject import FOREGROUND, MEANS
from alps.training.task import SegmentationTask

IMAGES_PER_SECOND = "train/images_per_second"


class EMAWeightAveraging(lightning_callbacks.EMAWeightAveraging):
    """Lightning's moving average of the weights, for which no step waits for the GPU.

    The name is Lightning's, because checkpoints contain it.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the averaged model before a fit."""
        super().setup(trainer, pl_module, stage)
        count_averages_on_cpu(self)


class Speed(Callback):
    """Measure training throughput in images per second, summed over all processes.

    Each batch is timed from the end of the previous batch, so the time includes waiting for data.
    Validation is excluded.

    Args:
        warmup: number of first batches to exclude, while caches fill and workers start.
    """

    def __init__(self, warmup: int = 3) -> None:
        self.warmup = warmup
        self.images = 0
        self.seconds = 0.0
        self._last: float | None = None

    @property
    def images_per_second(self) -> float:
        """Mean throughput since the start, or NaN before the first timed batch."""
        return self.images / self.seconds if self.seconds else float("nan")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the images of a batch and log the mean throughput."""
        now = time.perf_counter()
        if self.warmup > 0:
            self.warmup -= 1
        elif self._last is not None:
            self.images += len(batch.target) * trainer.world_size
            self.seconds += now - self._last
            # A float would be copied to the device, and the copy waited for.
            value = torch.tensor(self.images_per_second)
            pl_module.log(IMAGES_PER_SECOND, value, rank_zero_only=True)
        self._last = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock, so that the first batch after validation is not counted."""
        self._last = None


class LearningRates(Callback):
    """Log the learning rate of each group of parameters, named as by `LearningRateMonitor`.

    Lightning's callback also copies each rate to the device, and waits for it.
    """

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Log the rates of the steps for which the loss is logged."""
        if not logs_step(trainer):
            return
        (optimizer,) = trainer.optimizers
        groups = optimizer.param_groups
        name = f"lr-{type(optimizer).__name__}"
        names = [f"{name}/pg{i}" for i in range(1, len(groups) + 1)] if groups[1:] else [name]
        rates = {name: group["lr"] for name, group in zip(names, groups, strict=True)}
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)


class ProgressBar(RichProgressBar):
    """Show Lightning's progress bar over the steps of a run, with loss and images per second."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics that are displayed with the bar, without reading from the device."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if isinstance(pl_module, SegmentationTask) and pl_module.recent_losses.was_read:
            metrics = {"train/loss": pl_module.recent_losses.last, **metrics}
        speed = trainer.callback_metrics.get(IMAGES_PER_SECOND)
        return metrics if speed is None else {**metrics, "images/s": f"{float(speed):.1f}"}

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"  # without an epoch number: a run is a single epoch


class ScoreLines(Callback):
    """Print one line of scores per validation.

    After a test, print the mean IoU without the background, for datasets with a background class.
    """

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the step, the loss, the scores and the throughput."""
        assert isinstance(pl_module, SegmentationTask)
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        parts = [f"step {trainer.global_step}/{trainer.max_steps}"]
        names = [s.named("val", m) for s in pl_module.subjects for m in ("mIoU", FOREGROUND)]
        means = [f"val/{name}" for name in MEANS]
        if pl_module.recent_losses.was_read:  # not in a validation without training
            parts.append(f"train/loss {pl_module.recent_losses.last:.3f}")
        logged = [name for name in dict.fromkeys([*means, *names]) if name in metrics]
        parts += [f"{name} {float(metrics[name]):.4f}" for name in logged]
        parts += filter(None, [s.coverage() for s in pl_module.subjects])
        if IMAGES_PER_SECOND in metrics:
            parts.append(f"{float(metrics[IMAGES_PER_SECOND]):.1f} images/s")
        get_console().print("  ".join(parts), highlight=False, soft_wrap=True)

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the mean IoU without the background."""
        assert isinstance(pl_module, SegmentationTask)
        for subject in pl_module.subjects:
            name = subject.named("test", FOREGROUND)
            if (value := trainer.callback_metrics.get(name)) is not None:
                get_console().print(f"{name} {float(value):.4f}", highlight=False)


class Pictures(Callback):
    """Draw image, label and prediction of the first validation images after each validation.

    Args:
        folder: folder of the PNG files; a W&B logger logs them too.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``step_<n>.png``, or one ``step_<n>_<dataset>.png`` per dataset."""
        assert isinstance(pl_module, SegmentationTask)
        if trainer.sanity_checking:
            return
        for subject in pl_module.subjects:
            if not subject.picture_rows:
                continue
            picture = sheet(subject.picture_rows, subject.categories)
            self.folder.mkdir(parents=True, exist_ok=True)
            suffix = f"_{subject.name}" if subject.name else ""
            picture.save(self.folder / f"step_{trainer.global_step:06d}{suffix}.png")
            name = subject.named("val", "pictures")
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.log_image(name, [picture], step=trainer.global_step)
