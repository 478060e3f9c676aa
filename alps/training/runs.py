"""The runs that train.py starts: fit, test, predict; and what they tell at their end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from rich import get_console
from rich.table import Table

from alps.errors import CheckpointError, ConfigError
from alps.models.segmentation import SegmentationModel
from alps.training.callbacks import IMAGES_PER_SECOND
from alps.training.data import SegmentationData
from alps.training.predict import Counts, Predictor
from alps.training.sliding import SlidingWindow
from alps.training.task import SegmentationTask
from alps.types import Category

#: Validations of a run, where nothing else is asked for.
VALIDATIONS = 10

#: Lightning's, that say nothing here: the run's folder holds config.yaml; on a CPU workers are rivals
#: of the net; torch renamed what Lightning uses; our batches are resumable.
EXPECTED_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",
    ".* does not have many workers",
    ".*LeafSpec.* is deprecated",
    "You're resuming from a checkpoint that ended before the epoch ended",
)


def fit(
    task: SegmentationTask,
    data: SegmentationData,
    trainer: Trainer,
    *,
    run: Path,
    config: Mapping[str, Any],
    resume: str | None = None,
) -> float:
    """Train, validate and keep checkpoints; then print the scores of the last validation.

    Args:
        task: the net and how it learns.
        data: what it learns from.
        trainer: how long, and on what.
        run: folder of the run.
        config: the resolved configuration, for W&B.
        resume: a ``last.ckpt``; the run goes on as if it had never stopped.

    Returns:
        The last val/mIoU.

    Raises:
        CheckpointError: ``resume`` is not there.
        DivergedError: the loss is not finite any more.
    """
    if resume is not None and not Path(resume).is_file():
        raise CheckpointError(f"resume={resume}: no such file; give the last.ckpt of a run")
    if trainer.is_global_zero:
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.yaml").write_text(task.config)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(dict(config))
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()  # the next trial of a sweep is another run
    if trainer.is_global_zero:
        console = get_console()
        speed = trainer.callback_metrics.get(IMAGES_PER_SECOND)
        if speed is not None:
            console.print(f"speed       {float(speed):.1f} images/s", highlight=False)
        console.print(f"run         {run}", highlight=False, soft_wrap=True)
        _print_scores(task, "val", len(data.val))
    return task.scores.mIoU if task.scores else float("nan")


def test(task: SegmentationTask, data: SegmentationData, trainer: Trainer) -> float:
    """Score the split ``test``, or ``val`` where there is none; returns test/mIoU."""
    trainer.test(task, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        _print_scores(task, "test", len(data.test or data.val))
    return task.scores.mIoU if task.scores else float("nan")


def predict(
    model: SegmentationModel,
    *,
    window: SlidingWindow,
    categories: Sequence[Category],
    fabric: Fabric,
    source: str,
    target: str,
) -> Counts:
    """Write index maps of a file or of a folder of images; prints what became of them."""
    net = fabric.setup_module(model.eval())
    predictor = Predictor(
        net=lambda image: net(image).logits,
        window=window,
        categories=categories,
        divisor=model.encoder.divisor,
        device=fabric.device,
    )
    counts = predictor(source, target)
    words = f"{counts.written} predicted, {counts.kept} were there, {counts.failed} skipped"
    get_console().print(f"{words}\npredictions {target}", highlight=False, soft_wrap=True)
    return counts


def validation_interval(max_steps: int, wanted: int | None) -> int:
    """Steps between two validations, so that one falls on the last step.

    Raises:
        ConfigError: ``wanted`` does not divide ``max_steps``, or there are no steps.
    """
    if max_steps < 1:
        raise ConfigError(f"trainer.max_steps={max_steps}: expected how many steps to learn for")
    divisors = [d for d in range(1, max_steps + 1) if max_steps % d == 0]
    if wanted is None:
        return min(d for d in divisors if max_steps // d <= VALIDATIONS)
    if wanted not in divisors:
        near = sorted(sorted(divisors, key=lambda d: abs(d - wanted))[:3])
        raise ConfigError(
            f"trainer.val_check_interval={wanted} does not divide trainer.max_steps={max_steps}: "
            f"the last steps would be neither scored nor kept; try {', '.join(map(str, near))}"
        )
    return wanted


def _print_scores(task: SegmentationTask, split: str, n: int) -> None:
    """A table of the classes, and as the last line what a script reads."""
    scores = task.scores
    if scores is None:
        return
    console = get_console()
    console.print(f"{task.protocol}; {n} whole images", highlight=False, soft_wrap=True)
    table = Table("class")
    for column in ("IoU", "F1", "accuracy"):
        table.add_column(column, justify="right")
    rows = zip(task.categories, scores.iou, scores.f1, scores.accuracy, strict=True)
    for category, *values in rows:
        table.add_row(category.name, *(f"{value:.4f}" for value in values))
    console.print(table)
    words = (f"{split}/{name} {getattr(scores, name):.4f}" for name in ("mIoU", "mF1", "OA"))
    console.print("  ".join(words), highlight=False, soft_wrap=True)
