"""All private parts of Lightning that ALPS uses.

They are why pyproject.toml limits the version of Lightning. Before raising the limit, run
`make test-ddp` and `tests/training` with the new version.
"""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

#: Launcher that starts the processes of a run by running the program again.
ProcessLauncher = _SubprocessScriptLauncher


def stop_after_step(trainer: Trainer, stop: bool) -> None:
    """Make Lightning raise `SIGTERMException` after the step and its logging.

    The public ``trainer.should_stop`` would end the run without an exception, as if finished.
    """
    trainer._signal_connector.received_sigterm = stop


def skip_signal_exchange(trainer: Trainer) -> None:
    """Omit Lightning's exchange of SIGTERM among the processes, which waits for the GPU every step.

    `Interrupt` exchanges signals itself.
    """
    # mypy refuses to replace a method.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def logs_step(trainer: Trainer) -> bool:
    """Return whether Lightning writes the values of the current step to the loggers."""
    logs: bool = trainer._logger_connector.should_update_logs
    return logs


def count_averages_on_cpu(callback: WeightAveraging) -> None:
    """Keep the number of averaged weights on the CPU, which reads it twice per step."""
    if callback._average_model is not None:
        callback._average_model.n_averaged = callback._average_model.n_averaged.cpu()


def add_max_steps(trainer: Trainer, steps: int) -> None:
    """Change the number of steps of a running fit."""
    trainer.fit_loop.epoch_loop.max_steps += steps


def run_validation(trainer: Trainer) -> None:
    """Run a validation within a fit, as Lightning does after a step.

    The public ``trainer.validate`` would end the fit.
    """
    validation = trainer.fit_loop.epoch_loop.val_loop
    validation.restarting = False  # start from the first batch, because the counts are lost
    trainer.validating = True
    validation.run()
    trainer.training = True


def batches_started(trainer: Trainer) -> int:
    """Return the number of started batches of the current epoch, restored when a run resumes.

    It gives the position of the loaders when an epoch starts.
    """
    started: int = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return started


def batch_index(trainer: Trainer) -> int:
    """Return the index of the current batch among all batches of a run, before and after resumes.

    Unlike `batches_started`, it does not restart if a finished run resumes with more steps.
    """
    return trainer.fit_loop.epoch_loop.total_batch_idx
