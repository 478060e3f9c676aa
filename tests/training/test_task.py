"""The task under Lightning: learning, resuming, averaging, diverging."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch.testing import assert_close

from tests.training.task_runs import StopAfter, fit, weights
from tests.training.tiny_runs import (
    RUN_WARNINGS,
    tiny_data,
    tiny_task,
    tiny_trainer,
)

pytestmark = RUN_WARNINGS


class GradientNorms(Callback):
    """The norm of the gradients that each step was made with."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        norms = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
        self.values.append(float(torch.stack(norms).norm()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_gradients_of_a_fused_optimiser_are_clipped_in_any_precision(tmp_path, precision):
    """Unclipped they are longer; clipped they and the weights are those of a plain optimiser."""
    runs = {}
    for fused, clip in ((True, None), (True, 0.05), (False, 0.05)):
        task, norms = tiny_task(), GradientNorms()
        task.optim.optimizer = partial(torch.optim.AdamW, fused=fused)
        trainer = tiny_trainer(
            tmp_path,
            3,
            [norms],
            val_check_interval=3,
            gradient_clip_val=clip,
            # Lightning would use bfloat16 on a CPU, where torch computes float16 as well.
            plugins=[MixedPrecision("16-mixed", "cpu")] if precision == "16-mixed" else None,
            precision=None if precision == "16-mixed" else precision,
        )
        trainer.fit(task, datamodule=tiny_data())
        runs[fused, clip] = norms.values, weights(task)
    if precision != "16-mixed":  # there a fused optimiser leaves its gradients scaled
        assert min(runs[True, None][0]) > 0.1
    assert runs[True, 0.05][0] == pytest.approx([0.05] * 3, rel=1e-2)
    assert_close(runs[True, 0.05][1], runs[False, 0.05][1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("clip", [None, 0])
def test_gradients_are_not_clipped_to_nothing(tmp_path, clip):
    norms = GradientNorms()
    fit(tmp_path, 2, callbacks=[norms], gradient_clip_val=clip)
    assert min(norms.values) > 0.1


def test_it_learns(tmp_path):
    task, losses = fit(tmp_path, 30)
    assert losses[-1] < 0.6 * losses[0]
    assert task.mean("mIoU") > 0.6


@pytest.mark.parametrize("stop", [4, 6])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path, stop, accumulate):
    options = {"accumulate_grad_batches": accumulate, "val_check_interval": 2 * accumulate}
    whole, losses = fit(tmp_path / "whole", 10, **options)
    callbacks = [StopAfter(stop)]
    _, first = fit(tmp_path / "broken", 10, callbacks=callbacks, **options)
    resumed, rest = fit(tmp_path / "broken", 10, resume=tmp_path / "broken/last.ckpt", **options)
    assert len(first) + len(rest) == len(losses)
    assert first + rest == losses
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name
