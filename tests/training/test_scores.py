"""Scores of the validation split: what they are computed from, and which classes they cover."""

import logging
from functools import partial

import numpy as np
import pytest
import torch

from alps.datasets.segmentation import Example
from alps.errors import LabelError
from alps.metrics.segmentation import confusion_matrix
from alps.prediction.sliding import SlidingWindow, most_probable
from alps.training.callbacks import ScoreLines
from alps.training.runs import _print_scores
from tests.allocations import Largest
from tests.training.tiny_runs import (
    RUN_WARNINGS,
    ColoredBlocks,
    tiny_data,
    tiny_task,
    tiny_trainer,
)

pytestmark = RUN_WARNINGS


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
