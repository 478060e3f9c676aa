"""Several datasets at once, under Lightning: learning, scores, resuming, and one of them alone."""

from dataclasses import replace

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from alps.datasets.joint import images_per_dataset
from alps.errors import CheckpointError, ConfigError
from alps.models.segmentation import SegmentationModel
from alps.training.callbacks import Pictures, ScoreLines
from alps.training.checkpoint import read_checkpoint
from tests.training.task_runs import StopAfter, weights
from tests.training.tiny_runs import (
    RUN_WARNINGS,
    ColoredBlocks,
    Losses,
    tiny_data,
    tiny_task,
    tiny_trainer,
)

pytestmark = RUN_WARNINGS


def sets():
    """Other classes, another value of unlabelled pixels, other sizes."""
    return {
        "large": ColoredBlocks(n=16, val=4),
        "small": ColoredBlocks(n=6, val=3, num_classes=2, ignore_index=7),
        "wide": ColoredBlocks(n=5, val=2, size=(64, 96)),
    }


def fit(folder, steps, *, callbacks=(), resume=None):
    task, losses = tiny_task(sets(), aux=True), Losses()
    keep = ModelCheckpoint(folder, filename="best", monitor="val/mIoU", mode="max", save_last=True)
    keep.auto_insert_metric_name = False
    trainer = tiny_trainer(folder, steps, [losses, keep, *callbacks])
    data = tiny_data(sets(), batch_size=6)
    trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    return task, losses.values, trainer


def test_it_learns_each_and_scores_each_by_its_own_classes(tmp_path, capsys):
    callbacks = [ScoreLines(), Pictures(str(tmp_path))]
    task, losses, trainer = fit(tmp_path, 30, callbacks=callbacks)
    assert losses[-1] < 0.85 * losses[0]
    found = [subject.scores.mIoU for subject in task.subjects]
    assert min(found) > 0.5
    metrics = trainer.callback_metrics
    for name, score in zip(("large", "small", "wide"), found, strict=True):
        assert float(metrics[f"val/{name}/mIoU"]) == pytest.approx(score)
        assert f"val/{name}/IoU/colour 0" in metrics
        assert (tmp_path / f"step_000030_{name}.png").exists()
    assert float(metrics["val/mIoU"]) == pytest.approx(sum(found) / 3)
    assert [len(subject.confusion) for subject in task.subjects] == [3, 2, 3]
    assert "val/small/mIoU 0." in capsys.readouterr().out


def test_the_loss_is_the_sum_of_the_datasets_losses(tmp_path):
    task, data = tiny_task(sets(), dropout=0.0), tiny_data(sets(), batch_size=6)
    data.trainer = task.trainer = tiny_trainer(tmp_path)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert list(batch.counts) == images_per_dataset((12, 3, 3), 6)
    task.log = lambda *args, **options: None
    total = task.eval().training_step(batch, 0)
    start, parts = 0, []
    for i, count in enumerate(batch.counts):
        rows = slice(start, start + count)
        counts = [0, 0, 0]
        counts[i] = count
        logits = task.model(batch.image[rows], counts)[i].logits
        parts.append(task.losses[i](logits, batch.target[rows].long()))
        start += count
    torch.testing.assert_close(total, sum(parts))


@pytest.mark.parametrize("stop", [3, 4])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path, stop):
    whole, losses, _ = fit(tmp_path / "whole", 8)
    _, first, _ = fit(tmp_path / "broken", 8, callbacks=[StopAfter(stop)])
    resumed, rest, _ = fit(tmp_path / "broken", 8, resume=tmp_path / "broken/last.ckpt")
    assert first + rest == losses
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_one_of_the_datasets_can_be_used_as_if_it_were_the_only_one(tmp_path):
    task, _, _ = fit(tmp_path, 2)
    saved = read_checkpoint(tmp_path / "last.ckpt")
    assert saved.datasets == ("large", "small", "wide")
    for use in (lambda: saved.categories, lambda: saved.choose(None), lambda: saved.choose("x")):
        with pytest.raises(CheckpointError, match=r"choose .*classifier=large\|small\|wide"):
            use()
    small = saved.choose("small")
    assert (small.datasets, small.ignore_index, small.protocol) == ((), 7, "blocks: 2 classes")
    assert small.categories == task.subjects[1].categories
    assert small.choose(None) is small
    with pytest.raises(
        CheckpointError, match="was trained on a single dataset; omit classifier=small"
    ):
        small.choose("small")
    alone = tiny_task(ColoredBlocks(num_classes=2), aux=True).model.eval()
    assert isinstance(alone, SegmentationModel)
    small.load_into(alone)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = task.model.eval()(image, (0, 2, 0))[1].logits
        torch.testing.assert_close(alone(image).logits, expected)


def test_a_run_resumes_with_its_datasets_in_their_order_only(tmp_path):
    fit(tmp_path, 2)
    config = {"seed": 0, "datasets": {"a": {"root": "x"}, "b": {"root": "y"}}}
    saved = replace(read_checkpoint(tmp_path / "last.ckpt"), config=yaml.safe_dump(config))
    saved.check_settings(config)
    turned = {**config, "datasets": dict(reversed(config["datasets"].items()))}
    with pytest.raises(CheckpointError, match="the order of datasets was a, b, is b, a; restore"):
        saved.check_settings(turned)


def test_all_datasets_are_cut_to_one_crop():
    small = ColoredBlocks(size=(48, 64))
    data = tiny_data({"a": ColoredBlocks(size=(96, 96)), "b": small})
    assert data.crop == 32
    assert {part.crop for part in data.parts} == {32}


def test_a_batch_with_less_than_one_image_of_each_is_refused(tmp_path):
    data = tiny_data(sets(), batch_size=2)
    data.trainer = tiny_trainer(tmp_path)
    data.setup("fit")
    with pytest.raises(ConfigError, match="batch of 2 images cannot hold one of each of 3"):
        data.train_dataloader()
