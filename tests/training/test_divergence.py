"""Losses and weights that are not finite."""

import pytest
import torch
from lightning.pytorch import Callback

from alps.errors import DivergedError
from tests.training.task_runs import checkpoint, fit
from tests.training.tiny_runs import (
    RUN_WARNINGS,
    Losses,
    tiny_data,
    tiny_task,
    tiny_trainer,
)

pytestmark = RUN_WARNINGS


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path):
    task = tiny_task()
    trainer = tiny_trainer(tmp_path)
    with torch.no_grad():
        task.model.classifier.weight[0, 0] = torch.nan
    with pytest.raises(
        DivergedError, match=r"loss is nan at step 0 \(batch 0: \d+, .*lower optim.lr"
    ):
        trainer.fit(task, datamodule=tiny_data())


class Poison(Callback):
    """Make the losses after a step NaN; the weights become so, too."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.ids: list[str] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            self.ids = batch.image_ids
            with torch.no_grad():
                pl_module.model.classifier.weight[0, 0] = torch.nan


@pytest.mark.parametrize(("interval", "last"), [(8, 7), (6, 5)])
def test_losses_of_several_steps_are_read_at_once_and_the_first_bad_one_is_named(
    tmp_path, interval, last
):
    """When they are logged, or before the next validation and thus before a checkpoint."""
    poison, steps = Poison(4), Steps()
    callbacks = [poison, steps, checkpoint(tmp_path)]
    options = {"log_every_n_steps": 4, "val_check_interval": interval}
    with pytest.raises(DivergedError) as error:
        tiny_trainer(tmp_path, 24, callbacks, **options).fit(tiny_task(), datamodule=tiny_data())
    names = ", ".join(poison.ids)
    assert str(error.value).startswith(f"the loss is nan at step 4 (batch 4: {names}); lower")
    assert steps.last == last
    assert not [*tmp_path.glob("*.ckpt")]


class Steps(Callback):
    """The last step of a run."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.last = trainer.global_step


def test_a_net_that_diverged_since_the_last_reading_is_not_saved(tmp_path):
    class Save(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    with pytest.raises(DivergedError, match=r"loss is nan at step 2 \(batch 2: "):
        tiny_trainer(
            tmp_path, 8, [Poison(2), Save()], val_check_interval=8, log_every_n_steps=8
        ).fit(tiny_task(), datamodule=tiny_data())
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["1.ckpt", "2.ckpt"]


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    class Poison(Losses):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            with torch.no_grad():
                pl_module.model.classifier.weight[0, 0] *= 1 if batch_idx == 0 else torch.inf

    with pytest.raises(DivergedError, match=r"weights are not finite after step 2; lower optim"):
        fit(tmp_path, 4, callbacks=[Poison()])
    assert not (tmp_path / "last.ckpt").exists()
