import warnings

import numpy as np
import pytest
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from PIL import Image

from alps.errors import ConfigError, DatasetNotFound
from alps.prediction.sliding import SlidingWindow
from alps.structures.records import Category
from alps.training.callbacks import Pictures, ScoreLines, Speed
from alps.training.checkpoint import read_checkpoint
from alps.training.data import SegmentationData
from alps.training.pictures import GAP, HEADING, UNLABELLED, PictureRow, sheet
from alps.training.runs import test as score
from alps.training.runs import validation_interval
from tests.programs import LIGHTNING_WARNINGS, composed
from tests.training.tiny_runs import ColoredBlocks, tiny_data, tiny_task, tiny_trainer

pytestmark = LIGHTNING_WARNINGS


@pytest.mark.parametrize(
    ("steps", "interval"),
    [(150, 15), (20000, 2000), (7, 1), (1, 1), (4, 1), (22, 2), (60, 6), (99, 9)],
)
def test_a_validation_falls_on_the_last_step(steps, interval):
    assert validation_interval(steps, None) == interval
    assert steps % interval == 0
    assert validation_interval(steps, interval) == interval


def test_a_length_that_cannot_be_divided():
    with pytest.raises(ConfigError, match=r"max_steps=151 cannot .*; set trainer.max_steps=150"):
        validation_interval(151, None)


def test_an_interval_that_would_lose_the_last_steps():
    with pytest.raises(ConfigError, match=r"=40 does not divide .*=150: .*; try 25, 30, 50"):
        validation_interval(150, 40)


def test_a_run_tells_its_speed_and_scores_and_draws(tmp_path, capsys):
    speed = Speed(warmup=1)
    callbacks = [speed, ScoreLines(), Pictures(str(tmp_path))]
    trainer = tiny_trainer(tmp_path, 6, callbacks, val_check_interval=3)
    trainer.fit(tiny_task(), datamodule=tiny_data(batch_size=4))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["3/6", "6/6"]
    assert all("val/mIoU" in line and "images/s" in line for line in lines)
    # The first batch warms up, the first after a validation waits for it.
    assert speed.images == 4 * 4
    assert speed.images_per_second == pytest.approx(16 / speed.seconds)
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["step_000003.png", "step_000006.png"]


def test_a_test_prints_no_warning_of_libraries(tmp_path):
    data = tiny_data()
    data.test = data.val
    trainer = tiny_trainer(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also what LIGHTNING_WARNINGS ignores
        assert 0 <= score(tiny_task(), data, trainer) <= 1


def test_the_last_checkpoint_is_of_the_last_step_where_the_best_is_older(tmp_path):
    callbacks = composed("stage=pretrain", f"run={tmp_path}").callbacks
    best = instantiate(callbacks.checkpoint, mode="min")  # of scores that rise
    trainer = tiny_trainer(tmp_path, 6, [best, instantiate(callbacks.last)])
    trainer.fit(tiny_task(), datamodule=tiny_data())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    steps = [read_checkpoint(tmp_path / f"{name}.ckpt").step for name in ("best", "last")]
    assert steps == [2, 6]


def test_a_picture_holds_image_label_and_prediction():
    image = np.full((20, 40, 3), 77, np.uint8)
    target = np.zeros((20, 40), np.uint8)
    target[:, 20:] = 255
    prediction = np.ones((20, 40), np.int64)
    categories = [Category(0, "water", (10, 20, 30)), Category(1, "road", (200, 100, 0))]
    picture = np.asarray(sheet([PictureRow(image, target, prediction)], categories))
    y = HEADING + 40

    def pixel(column, x):
        return tuple(picture[y, GAP + column * (320 + GAP) + x].tolist())

    assert pixel(0, 100) == (77, 77, 77)
    assert pixel(1, 100) == (10, 20, 30)
    assert pixel(1, 250) == (UNLABELLED,) * 3
    assert pixel(2, 100) == pixel(2, 250) == (200, 100, 0)


def test_the_crop_fits_the_images():
    assert SegmentationData(ColoredBlocks(size=(80, 112)), batch_size=2).crop == 64
    assert SegmentationData(ColoredBlocks(size=(608, 640)), batch_size=2).crop == 512
    assert SegmentationData(ColoredBlocks(), batch_size=2, crop=96).crop == 96
    with pytest.raises(ConfigError, match=r"^crop=100: .*multiple of 32 px"):
        SegmentationData(ColoredBlocks(), batch_size=2, crop=100)


def test_the_views_are_those_asked_for():
    options = {"scale": (0.5, 1.5), "scale_p": 0.25, "cat_max_ratio": 1.0, "ignore_border": 2}
    data = SegmentationData(ColoredBlocks(), batch_size=2, photometric=0.0, **options)
    view = data.train_dataset().transform
    assert {name: getattr(view, name) for name in options} == options
    assert (view.photometric_p, view.crop) == (0.0, 64)


def test_without_a_split_val_images_are_held_out(tmp_path):
    data = SegmentationData(ColoredBlocks(n=10, val=0), batch_size=2, hold_out=0.3)
    assert (len(data.train), len(data.val)) == (7, 3)
    assert not {r.image_id for r in data.train} & {r.image_id for r in data.val}
    data = SegmentationData(ColoredBlocks(n=1, val=0), batch_size=2)
    data.trainer = tiny_trainer(tmp_path)
    with pytest.raises(DatasetNotFound, match=r"no image in val \(train 1, val 0, test 0\)"):
        data.val_dataloader()


@pytest.mark.parametrize(
    ("val", "loader", "remedy"),
    [
        (0, "val_dataloader", "set trainer.devices=1 or less, or increase data.hold_out"),
        (1, "val_dataloader", "set trainer.devices=1 or less"),
        (0, "test_dataloader", "set trainer.devices=1 or less"),  # hold_out is the checkpoint's
    ],
)
def test_hold_out_is_suggested_only_where_it_has_an_effect(val, loader, remedy):
    data = SegmentationData(ColoredBlocks(n=4, val=val), batch_size=2, hold_out=0.2)
    data.trainer = Trainer(accelerator="cpu", devices=2, logger=False)
    with pytest.raises(ConfigError, match=f"^1 images in .* too few for 2 processes; {remedy}$"):
        getattr(data, loader)()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than we have cores
@pytest.mark.parametrize(
    ("size", "crop", "batch_size", "processes"),
    [
        ((64, 64), 64, 3, 8),  # windows that share a pass
        ((64, 96), 64, 1, 8),  # each has several
        ((64, 96), 96, 3, 8),
        ((4096, 6144), 512, 1, 6),  # 168 MiB each
        ((12288, 16384), 512, 1, 1),  # more than a GiB
    ],
)
def test_whole_images_in_memory_are_few_however_large(
    tmp_path, monkeypatch, size, crop, batch_size, processes
):
    data = SegmentationData(ColoredBlocks(), batch_size=96, crop=64, num_workers=8)
    monkeypatch.setattr(data, "_sizes", [(32, 32), size])  # instead of reading them
    data.trainer, task = tiny_trainer(tmp_path), tiny_task()
    data.trainer.strategy.connect(task)
    task.window = SlidingWindow(crop=crop, batch_size=3)
    loader = data.val_dataloader()
    assert (loader.batch_size, loader.num_workers) == (batch_size, processes)
    assert loader.prefetch_factor == 1


def test_all_runs_on_a_dataset_are_scored_on_the_same_images():
    val = [
        SegmentationData(ColoredBlocks(n=10, val=0), batch_size=2, hold_out=0.3, seed=s).val
        for s in (0, 1)
    ]
    assert val[0] == val[1]


def test_subsets_do_not_change_what_is_scored():
    whole = SegmentationData(ColoredBlocks(), batch_size=2)
    part = SegmentationData(ColoredBlocks(), batch_size=2, fraction=0.25)
    assert len(part.train) == 2
    assert part.val == whole.val


def test_pictures_of_many_sizes_fit_on_a_sheet():
    rows = [
        PictureRow(
            np.zeros((h, w, 3), np.uint8), np.zeros((h, w), np.uint8), np.zeros((h, w), np.uint8)
        )
        for h, w in ((900, 300), (30, 50))
    ]
    assert isinstance(
        sheet(rows, [Category(0, "a very long name of a class", (1, 2, 3))]), Image.Image
    )
