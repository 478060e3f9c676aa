"""Training and test runs, which print their scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich import get_console
from rich.table import Table

from alps.errors import ConfigError
from alps.metrics.segmentation import Scores
from alps.training.callbacks import IMAGES_PER_SECOND
from alps.training.data import SegmentationData
from alps.training.joint import JointData
from alps.training.stopping.interrupt import Interrupt
from alps.training.stopping.peers import ending_together
from alps.training.subject import MEANS, Subject
from alps.training.task import SegmentationTask

#: Default and minimum number of validations in a run.
VALIDATIONS, MIN_VALIDATIONS = 10, 5

#: Warnings of Lightning that do not apply: the folder of a run already contains config.yaml; on a
#: CPU, workers compete with the model; torch 2.15 deprecates LeafSpec, which Lightning 2.6 uses;
#: the sampler can resume within an epoch.
EXPECTED_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",
    ".* does not have many workers",
    ".*LeafSpec.* is deprecated",
    "You're resuming from a checkpoint that ended before the epoch ended",
)


class RunStopped(KeyboardInterrupt):
    """A run was stopped by a signal, such as Ctrl-C, and can be resumed.

    Args:
        checkpoint: the ``last.ckpt`` that was written.
        step: number of completed steps.
        status: exit status for the signal by the convention of shells.
        rank: rank of this process in the run.
    """

    def __init__(self, checkpoint: Path, step: int, status: int, rank: int = 0) -> None:
        super().__init__(f"stopped after step {step}; {checkpoint} was written")
        self.checkpoint = checkpoint
        self.step = step
        self.status = status
        self.rank = rank


def fit(
    task: SegmentationTask,
    data: SegmentationData | JointData,
    trainer: Trainer,
    *,
    run: Path,
    config: Mapping[str, Any],
    resume: str | None = None,
) -> float:
    """Train, validate and save checkpoints, then print the scores of the last validation.

    Args:
        task: the model with its losses and optimiser.
        data: training and validation images.
        trainer: Lightning's trainer, which sets the number of steps and the devices.
        run: folder of the run.
        config: resolved configuration, logged to W&B.
        resume: path of the ``last.ckpt`` of a stopped run, which continues with identical results.

    Returns:
        The last val/mIoU.

    Raises:
        ConfigError: ``run`` contains a different run, or cannot be written.
        DivergedError: the loss or a weight is not finite.
        RunStopped: a signal stopped the run after ``last.ckpt`` was written.
    """
    if trainer.is_global_zero:
        _start(run, task.config, resume)
    interrupt = Interrupt(run)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
    callbacks.append(interrupt)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(dict(config))
    with _expected_warnings_ignored():
        try:
            with ending_together(trainer):
                trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
        except SIGTERMException:
            raise RunStopped(
                interrupt.path, trainer.global_step, interrupt.exit_status, trainer.global_rank
            ) from None
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()  # otherwise the next trial of a sweep would log to this run
    if trainer.is_global_zero:
        console = get_console()
        speed = trainer.callback_metrics.get(IMAGES_PER_SECOND)
        if speed is not None:
            console.print(f"speed       {float(speed):.1f} images/s", highlight=False)
        console.print(f"run         {run}", highlight=False, soft_wrap=True)
        _print_scores(task, "val", [len(part.val) for part in data.parts])
    return task.mean("mIoU")


def test(task: SegmentationTask, data: SegmentationData, trainer: Trainer) -> float:
    """Score a model on the split ``test``, or ``val`` if there is none, and print the scores.

    Args:
        task: the model to score.
        data: the labelled images.
        trainer: Lightning's trainer, which sets the devices.

    Returns:
        test/mIoU.
    """
    with _expected_warnings_ignored(), ending_together(trainer):
        trainer.test(task, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        _print_scores(task, "test", [len(data.test or data.val)])
    return task.mean("mIoU")


def validation_interval(max_steps: int, interval: int | None) -> int:
    """Return the number of steps between two validations, which divides the run evenly.

    Args:
        max_steps: number of steps of the run.
        interval: requested number of steps; None: about a tenth of the run.

    Raises:
        ConfigError: ``max_steps`` is less than 1, ``interval`` does not divide it, or no divisor
            gives about `VALIDATIONS` validations.
    """
    if max_steps < 1:
        raise ConfigError(f"trainer.max_steps={max_steps}: expected at least one step")
    divisors = [d for d in range(1, max_steps + 1) if max_steps % d == 0]
    if interval is None:
        candidates = [d for d in divisors if MIN_VALIDATIONS <= max_steps // d <= 2 * VALIDATIONS]
        if not candidates and max_steps > MIN_VALIDATIONS:
            rounder = max_steps // VALIDATIONS * VALIDATIONS
            raise ConfigError(
                f"trainer.max_steps={max_steps} cannot be divided into about {VALIDATIONS} equal "
                f"parts, with a validation after each; set trainer.max_steps={rounder}, or set "
                "trainer.val_check_interval to a divisor"
            )
        return min(candidates or [1], key=lambda d: abs(max_steps // d - VALIDATIONS))
    if interval not in divisors:
        closest = sorted(sorted(divisors, key=lambda d: abs(d - interval))[:3])
        raise ConfigError(
            f"trainer.val_check_interval={interval} does not divide trainer.max_steps={max_steps}: "
            f"the last steps would be neither scored nor saved; try {', '.join(map(str, closest))}"
        )
    return interval


@contextmanager
def _expected_warnings_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


def _start(run: Path, config: str, resume: str | None) -> None:
    """Create the folder of a run and write its configuration.

    Raises:
        ConfigError: the folder contains a different run, or cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        if resume is None and (run / "last.ckpt").exists():
            raise ConfigError(
                f"{run} contains a run; continue it with resume={run / 'last.ckpt'}, or choose a "
                "different folder with run=DIR"
            )
        (run / "config.yaml").write_text(config)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {run}: {error.strerror or error}; choose a different folder with "
            "run=DIR"
        ) from error


def _print_scores(task: SegmentationTask, split: str, images: Sequence[int]) -> None:
    """Print a table of class scores per dataset, and the means on the last line for scripts."""
    for subject, n in zip(task.subjects, images, strict=True):
        if subject.scores is None:
            return
        _print_classes(subject, subject.scores, n)
        if subject.name:
            means = {subject.named(split, m): getattr(subject.scores, m) for m in MEANS}
            _print_line(means, [subject])
    _print_line({f"{split}/{m}": task.mean(m) for m in MEANS}, task.subjects)


def _print_classes(subject: Subject, scores: Scores, n: int) -> None:
    console = get_console()
    prefix = f"{subject.name}: " if subject.name else ""
    console.print(f"{prefix}{subject.protocol}; {n} whole images", highlight=False, soft_wrap=True)
    table = Table("class")
    for column in ("IoU", "F1", "accuracy"):
        table.add_column(column, justify="right")
    rows = zip(subject.categories, scores.iou, scores.f1, scores.accuracy, strict=True)
    for category, *values in rows:
        table.add_row(category.name, *(f"{value:.4f}" for value in values))
    console.print(table)


def _print_line(values: Mapping[str, float], subjects: Sequence[Subject]) -> None:
    columns = [f"{name} {value:.4f}" for name, value in values.items()]
    columns += filter(None, [subject.coverage() for subject in subjects])
    get_console().print("  ".join(columns), highlight=False, soft_wrap=True)
