"""What a checkpoint holds."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from alps.errors import CheckpointError
from alps.training.callbacks import EMAWeightAveraging
from alps.training.checkpoint import read_checkpoint
from tests.training.task_runs import StopAfter, fit, weights
from tests.training.tiny_runs import (
    RUN_WARNINGS,
    tiny_task,
)

pytestmark = RUN_WARNINGS


def test_weight_averaging_is_what_a_checkpoint_holds_and_resumes(tmp_path):
    def ema():
        return EMAWeightAveraging(decay=0.5)

    whole, _ = fit(tmp_path / "whole", 8, callbacks=[ema()])
    fit(tmp_path / "broken", 8, callbacks=[ema(), StopAfter(4)])
    resumed, _ = fit(
        tmp_path / "broken", 8, callbacks=[ema()], resume=tmp_path / "broken/last.ckpt"
    )
    plain, _ = fit(tmp_path / "plain", 8)
    saved = read_checkpoint(tmp_path / "whole/last.ckpt").weights
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name
        assert torch.equal(saved[name], value), name
    assert not torch.equal(weights(plain)["classifier.weight"], saved["classifier.weight"])


def test_a_checkpoint_can_be_used_without_anything_else(tmp_path):
    task, _ = fit(tmp_path, 2)
    saved = read_checkpoint(tmp_path / "last.ckpt")
    assert (saved.config, saved.protocol, saved.window_crop, saved.step) == (
        "seed: 0",
        "blocks: 3 classes",
        64,
        2,
    )
    assert saved.categories == task.subjects[0].categories
    other = tiny_task()
    with torch.no_grad():
        other.model.classifier.weight.zero_()
    saved.load_into(other.model)
    assert_close(weights(other), weights(task), rtol=0, atol=0)


def test_the_hash_of_a_checkpoint_is_that_of_its_weights(tmp_path):
    fit(tmp_path / "a", 2)
    fit(tmp_path / "b", 4)
    two = read_checkpoint(tmp_path / "a/last.ckpt")
    assert two.sha256 == read_checkpoint(tmp_path / "a/best.ckpt").sha256
    assert two.sha256 != read_checkpoint(tmp_path / "b/last.ckpt").sha256
    half = {name: value.bfloat16() for name, value in two.weights.items()}
    assert len(replace(two, weights=half).sha256) == 64


def test_the_checkpoint_of_one_dataset_keeps_its_form(tmp_path):
    """Those written before there could be several datasets are read by the same code."""
    fit(tmp_path, 2)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    keys = ["version", "config", "categories", "ignore_index", "protocol", "fingerprint", "crop"]
    assert [*content["alps"]] == keys
    assert {n for n in content["state_dict"] if "classifier" in n} == {
        "model.classifier.weight",
        "model.classifier.bias",
    }


def test_a_checkpoint_of_another_program(tmp_path):
    torch.save({"state_dict": {"fc.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of train.py: 'alps' is missing"):
        read_checkpoint(tmp_path / "other.pt")
