"""The task under Lightning: learning, resuming, averaging, diverging."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch.testing import assert_close

from alps.datasets.segmentation import Example
from alps.errors import CheckpointError, DivergedError, LabelError
from alps.metrics.segmentation import confusion_matrix
from alps.prediction.sliding import SlidingWindow, most_probable
from alps.training.callbacks import EMAWeightAveraging, ScoreLines
from alps.training.checkpoint import read_checkpoint
from alps.training.runs import _print_scores
from tests.allocations import Largest
from tests.training.tiny_runs import (
    ColoredBlocks,
    Losses,
    tiny_data,
    tiny_task,
    tiny_trainer,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",  # Lightning on torch 2.15
    "ignore:.*does not have many workers",
    "ignore:You're resuming from a checkpoint that ended before",  # our batches are resumable
    "ignore:Checkpoint directory .* exists",
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


class StopAfter(Losses):
    """End a run as a kill would: after a step, and nothing is written any more."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        trainer.should_stop = trainer.global_step >= self.step


def test_scores_are_those_of_the_whole_split(tmp_path):
    images = ColoredBlocks(n=7, val=3)
    task, data = tiny_task(images), tiny_data(images, batch_size=2)
    trainer = tiny_trainer(tmp_path)
    trainer.validate(task, datamodule=data, verbose=False)
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for record in images.records()[4:]:
        image = torch.from_numpy(images.read(record).image).permute(2, 0, 1)
        with torch.no_grad():
            prediction = task.model.eval()(image[None]).logits[0].argmax(0)
        target = torch.from_numpy(images.read_target(record))
        expected += confusion_matrix(prediction, target, 3, 255)
    assert torch.equal(task.subjects[0].confusion, expected)
    assert trainer.callback_metrics["val/mIoU"].item() == pytest.approx(task.mean("mIoU"))


@pytest.mark.parametrize("name", ["", "blocks"])
def test_the_mean_without_the_background_is_logged_beside_the_mean(tmp_path, capsys, name):
    images = ColoredBlocks()
    images.background = 1
    task, data = tiny_task({name: images}), tiny_data({name: images} if name else images)
    trainer = tiny_trainer(tmp_path, 2, [ScoreLines()])
    trainer.fit(task, datamodule=data)
    found = trainer.callback_metrics
    iou = [float(found[task.subjects[0].named("val", f"IoU/colour {i}")]) for i in range(3)]
    logged = task.subjects[0].named("val", "mIoU_foreground")
    assert float(found[logged]) == pytest.approx((iou[0] + iou[2]) / 2)
    assert float(found["val/mIoU"]) == pytest.approx(sum(iou) / 3)
    assert f"{logged} {float(found[logged]):.4f}" in " ".join(capsys.readouterr().out.split())
    if not name:
        trainer.test(task, datamodule=data, verbose=False)
        expected = f"test/mIoU_foreground {float(found[logged]):.4f}\n"
        assert capsys.readouterr().out.endswith(expected)


def test_without_a_background_there_is_one_mean(tmp_path, capsys):
    task, trainer = tiny_task(), tiny_trainer(tmp_path, 2, [ScoreLines()])
    trainer.fit(task, datamodule=tiny_data())
    trainer.test(task, datamodule=tiny_data(), verbose=False)
    assert not [name for name in trainer.callback_metrics if "foreground" in name]
    assert "foreground" not in capsys.readouterr().out


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


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    class Poison(Losses):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            with torch.no_grad():
                pl_module.model.classifier.weight[0, 0] *= 1 if batch_idx == 0 else torch.inf

    with pytest.raises(DivergedError, match=r"weights are not finite after step 2; lower optim"):
        fit(tmp_path, 4, callbacks=[Poison()])
    assert not (tmp_path / "last.ckpt").exists()


def test_large_images_are_scored_in_bands_and_small_ones_together(tmp_path):
    task = tiny_task()
    task.model.eval()
    for sizes in ([(64, 64), (64, 64), (32, 48)], [(96, 160), (64, 64)]):
        batch = [
            Example(
                torch.randint(256, (3, *size), dtype=torch.uint8), torch.zeros(size).byte(), "x"
            )
            for size in sizes
        ]
        with torch.no_grad():
            for example, parts in zip(batch, task._predict(batch, 0), strict=True):
                (whole,) = task.window(partial(task._logits, 0), [example.image])
                found = torch.full(example.target.shape, 9)
                for tile, part in parts:
                    assert part.dtype == torch.uint8
                    found[tile.y0 : tile.y1, tile.x0 : tile.x1] = part
                assert torch.equal(found, whole.argmax(0))


def colours(image):
    """A net without context or memory: the class is the colour."""
    return image.float()


def test_scoring_makes_no_tensor_of_the_size_of_a_large_image(monkeypatch):
    images = ColoredBlocks(n=1, size=(8192, 64), val=1)
    task = tiny_task(images)
    task.window = SlidingWindow(crop=64, batch_size=1)
    monkeypatch.setattr(task, "_logits", lambda dataset, image: colours(image))
    (record,) = images.records()
    image = torch.from_numpy(images.read(record).image).permute(2, 0, 1)
    target = torch.from_numpy(images.read_target(record))
    with Largest() as largest:
        task.test_step([Example(image, target, "x")], 0)
    assert 0 < largest.bytes < target.numel() / 4
    (subject,) = task.subjects
    expected = confusion_matrix(image.argmax(0), target, 3, images.ignore_index)
    assert torch.equal(subject.confusion, expected)
    (shown,) = subject.picture_rows
    step = 7  # 1171 of 8192 rows, up to 4 for each of the picture
    assert (shown.image == image.permute(1, 2, 0)[::step, ::step].numpy()).all()
    assert (shown.target == target[::step, ::step].numpy()).all()
    assert (shown.prediction == image.argmax(0)[::step, ::step].numpy()).all()
    assert shown.image.base is None  # else it would keep the whole one


def test_a_prediction_is_of_the_smallest_type():
    for k, dtype in ((255, torch.uint8), (256, torch.int32)):
        assert most_probable(torch.eye(k)[:, :, None]).dtype == dtype
        assert most_probable(torch.eye(k)[:, :, None]).flatten().tolist() == list(range(k))


class Unlabelled(ColoredBlocks):
    """Blocks of which some splits or images have no label."""

    def __init__(self, names):
        super().__init__()
        self.names = names

    def read_target(self, record):
        labels = super().read_target(record)
        return (
            np.full_like(labels, 255) if {record.split, record.image_id} & {*self.names} else labels
        )


def test_nothing_to_score_is_an_error(tmp_path):
    images = Unlabelled(["val"])
    expected = "blocks: 3 classes: no pixel with data has a label in the images of val, so there"
    with pytest.raises(LabelError, match=expected):
        tiny_trainer(tmp_path).fit(tiny_task(images), datamodule=tiny_data(images))
    expected = expected.replace("of val", "of test")
    with pytest.raises(LabelError, match=expected):
        tiny_trainer(tmp_path).test(tiny_task(images), datamodule=tiny_data(images), verbose=False)


@pytest.mark.parametrize(("splits", "lines"), [(["train"], 2), ([], 0)])
def test_a_loss_over_nothing_is_reported(tmp_path, caplog, splits, lines):
    images = Unlabelled(splits)
    trainer = tiny_trainer(tmp_path, 4)
    with caplog.at_level(logging.WARNING):
        trainer.fit(tiny_task(images), datamodule=tiny_data(images))
    told = [r.getMessage() for r in caplog.records if r.name == "alps.training.task"]
    assert len(told) == lines
    for line, step in zip(told, (2, 4), strict=False):
        assert line.startswith(
            f"no pixel of the steps up to {step} was labelled, so train/loss is 0"
        )


def test_a_score_says_over_how_many_classes_it_is_a_mean(tmp_path, capsys):
    images = ColoredBlocks()
    task = tiny_task(images)
    (subject,) = task.subjects
    assert subject.coverage() == ""
    subject.confusion[:2, :2] = torch.tensor([[3, 1], [0, 2]])
    logged = subject.score("val", lambda confusion: confusion)
    assert (logged["val/classes"], subject.coverage()) == (2.0, "over 2 of 3 classes")
    _print_scores(task, "val", [4])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "val/mIoU 0.7083  val/mF1 0.8286  val/OA 0.8333  over 2 of 3 classes"
    subject.name = "blocks"
    assert subject.coverage() == "over 2 of 3 classes of blocks"
    subject.confusion[2, 0] = 1
    subject.score("val", lambda confusion: confusion)
    assert subject.coverage() == ""


def test_a_sanity_check_may_see_no_label(tmp_path):
    images = Unlabelled(["008"])  # the first of val
    trainer = tiny_trainer(tmp_path, 2, num_sanity_val_steps=1)
    task = tiny_task(images)
    task.window = SlidingWindow(crop=64, batch_size=1)
    trainer.fit(task, datamodule=tiny_data(images))
    assert trainer.global_step == 2
