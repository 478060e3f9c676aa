"""train.py as a user meets it: main() in this process, its output and its exit."""

import re

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from alps.assign.category import ByCategory
from alps.images.boxes.dota import Dota
from alps.images.video.tracked import VideoBoxes
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.box import BoxMasks
from alps.structures.palette import index_png
from tests.box_formats import create_dota
from tests.factories import create_folder_pair
from tests.fakes import Ellipses
from tests.programs import LIGHTNING_WARNINGS, TINY, finetune
from tests.videos import create_video

pytestmark = LIGHTNING_WARNINGS


def test_train_resume_test_and_predict(train, pair, tmp_path, monkeypatch):
    """One life of a net: from random weights to index maps."""
    steps = ("trainer.max_steps=4", "trainer.val_check_interval=2")
    status, out, err = train(*finetune(pair, "init=null", *steps, "run=first"))
    assert status == 0, err
    assert re.match(r"init from random weights: encoder new", out)
    assert len(re.findall(r"step [24]/4  train/loss \S+  val/mIoU ", out)) == 2
    assert re.fullmatch(r"val/mIoU 0\.\d{4}  val/mF1 \S+  val/OA \S+", out.splitlines()[-1])
    first = tmp_path / "first"
    assert {p.name for p in first.iterdir()} == {
        *("best.ckpt", "last.ckpt", "config.yaml", "csv", "pictures")
    }
    with Image.open(first / "pictures/step_000004.png") as picture:
        assert picture.size[0] > 900
    header = (first / "csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/mIoU", "lr-AdamW/pg1", "train/images_per_second"} <= {*header}
    assert yaml.safe_load((first / "config.yaml").read_text())["head"]["channels"] == 32
    assert not (tmp_path / "runs").exists()

    # The same weights initialise a model with different classes, whose last layer is random.
    create_folder_pair(tmp_path / "other", n=2, num_classes=3)
    more = ("init=first/last.ckpt", "trainer.max_steps=1", "run=second", "logger=none")
    status, out, err = train(*finetune(tmp_path / "other", *more))
    assert status == 0, err
    assert re.match(
        r"init from first/last.ckpt: encoder (\d+) of \1 tensors, head (\d+) of \2", out
    )
    status, _, err = train(*finetune(tmp_path / "other", *more, "init_skip=[]"))
    assert (status, err.splitlines()[-1]) == (
        1,
        "error: classifier has 4 classes in first/last.ckpt, but 3 in this model; set "
        "init_skip=[classifier] to initialise the last layer at random",
    )
    status, _, err = train(*finetune(tmp_path / "other", *more, "model.encoder=test_vit"))
    assert status == 1
    assert "first/last.ckpt is a checkpoint of a different model" in err.splitlines()[-1]

    status, out, err = train("stage=test", "ckpt=first/last.ckpt", "trainer=cpu", "logger=none")
    assert status == 0, err
    assert out.splitlines()[-1].startswith("test/mIoU 0.")
    assert "3 whole images" in out
    other = ("stage=test", "ckpt=first/last.ckpt", "dataset=folder_pair")
    status, _, err = train(*other, f"dataset.root={tmp_path}/other")
    assert status == 1
    assert (
        "was trained on the classes 0, 1, 2, 3 (folder_pair pair: 4 classes" in err.splitlines()[-1]
    )
    pair.rename(tmp_path / "moved")
    moved = ("stage=test", "ckpt=first/last.ckpt", "trainer=cpu", "logger=none")
    status, _, err = train(*moved)
    assert (status, "no image under" in err) == (1, True)
    status, again, err = train(*moved, f"+dataset.root={tmp_path}/moved")
    assert again.splitlines()[-1] == out.splitlines()[-1], err
    status, _, err = train(*moved, "model=swin_tiny")
    assert "model=swin_tiny: stage=test uses the model of ckpt=first/last.ckpt" in err

    maps = ("stage=predict", f"input={tmp_path}/moved/img_dir", "output=maps", "trainer=cpu")

    def interrupted_at_the_third(*arguments):
        if len(list(tmp_path.glob("maps/*/*.png"))) == 2:
            raise KeyboardInterrupt
        return index_png(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("alps.prediction.files.index_png", interrupted_at_the_third)
        status, _, err = train(*maps, "ckpt=first/last.ckpt")
    assert (status, err.splitlines()[-1]) == (
        130,
        "interrupted: finished predictions are kept; repeat the command with output=maps to resume",
    )
    status, out, err = train(*maps, "ckpt=first/last.ckpt")
    assert status == 0, err
    assert "4 predicted, 2 already present, 0 skipped" in out
    status, out, err = train(*maps, "ckpt=first/last.ckpt", "window.batch_size=1")
    assert "0 predicted, 6 already present, 0 skipped" in out, err
    status, _, err = train(*maps, "ckpt=first/last.ckpt", "window.overlap=0.25")
    assert "made with different settings (predictor.json: window.overlap was 0.5, is 0.25)" in err
    with Image.open(tmp_path / "maps/val/0.png") as image:
        found = np.array(image)
    assert found.shape == (64, 96)
    assert set(np.unique(found)) <= {0, 1, 2, 3}


def test_a_test_sees_the_images_that_were_held_out(train, tmp_path):
    create_folder_pair(tmp_path / "pair", n=8, splits=("train",))
    more = ("init=null", "trainer.max_steps=1", "data.hold_out=0.5", "seed=3", "run=x")
    status, out, err = train(*finetune(tmp_path / "pair", *more, "logger=none"))
    assert status == 0, err
    status, again, err = train("stage=test", "ckpt=x/last.ckpt", "trainer=cpu", "logger=none")
    assert status == 0, err
    assert "4 whole images" in again
    assert again.splitlines()[-1] == out.splitlines()[-1].replace("val/", "test/")


def test_a_net_scored_by_windows_of_any_size_is_tested_by_them(train, pair):
    more = ("init=null", "trainer.max_steps=1", "window.crop=50", "run=x", "logger=none")
    status, out, err = train(*finetune(pair, *more))
    assert status == 0, err
    status, again, err = train("stage=test", "ckpt=x/last.ckpt", "trainer=cpu", "logger=none")
    assert status == 0, err
    assert again.splitlines()[-1] == out.splitlines()[-1].replace("val/", "test/")


def test_export_for_mmsegmentation_and_timm(train, pair, tmp_path):
    """tests/mmsegmentation lets mmsegmentation score what is written."""
    status, _, err = train(
        *finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    )
    assert status == 0, err
    status, out, err = train(
        "stage=export", "ckpt=x/last.ckpt", "output=out", "window.overlap=0.25"
    )
    assert status == 0, err
    assert out == "out: config.py and weights.pth for mmsegmentation\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.py",
        "weights.pth",
    ]
    text = (tmp_path / "out/config.py").read_text()
    assert text.startswith("# last.ckpt, step 1; folder_pair pair: ")
    assert re.search(r"'crop_size': \(64, 64\), 'stride': \(48, 48\)", text)
    status, _, err = train("stage=export", "ckpt=x/last.ckpt", "output=out")
    assert status == 1
    assert "exists already" in err
    status, _, err = train(*finetune(pair, "init=out/weights.pth", "trainer.max_steps=1", "run=y"))
    assert status == 0, err

    encoder = ("stage=export", "ckpt=x/last.ckpt", "output=enc")
    status, out, err = train(*encoder, "export.to=encoder")
    assert (status, out) == (0, "enc: encoder.safetensors of test_resnet for timm\n"), err
    assert [path.name for path in (tmp_path / "enc").iterdir()] == ["encoder.safetensors"]
    saved = torch.load("x/last.ckpt", weights_only=False)["state_dict"]
    network = timm.create_model(
        "test_resnet", checkpoint_path="enc/encoder.safetensors", num_classes=0
    )
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, saved[f"model.encoder.trunk.{name}"], rtol=0, atol=0)
    status, _, err = train(*encoder, "export.to=encoder")
    assert (status, "encoder.safetensors exists already" in err) == (1, True)
    status, _, err = train(*encoder, "export.to=onnx")
    assert "export.to=onnx: expected mmseg or encoder" in err


def test_labels_from_1_and_masks_of_255_are_learnt_and_exported(train, pair, tmp_path):
    """The words that the errors say are the ones that help."""
    for change, more, told in (
        (lambda i: i + (i < 4), "dataset.reduce_zero_label=true", "labels from 1; 0 and 255 ignor"),
        (lambda i: 255 * (i > 1), "dataset.classes=[ground,roof]", "2 classes, labels 0 and 255"),
    ):
        for path in pair.glob("ann_dir/*/*"):
            with Image.open(path) as image:
                labels = np.array(image)
            Image.fromarray(change(labels).astype(np.uint8)).save(path)
        words = ("init=null", "trainer.max_steps=1", "logger=none")
        if more.endswith("=true"):
            status, _, err = train(*finetune(pair, *words))
            assert (status, f"no file contains 0; {more} maps them" in err) == (1, True)
        run = f"run={len(told)}"
        status, out, err = train(*finetune(pair, *words, run, more))
        assert (status, told in out) == (0, True), err
        ckpt = f"ckpt={len(told)}/last.ckpt"
        status, again, err = train("stage=test", ckpt, "trainer=cpu", "logger=none")
        assert again.splitlines()[-1] == out.splitlines()[-1].replace("val/", "test/"), err
        status, _, err = train("stage=export", ckpt, f"output=out{len(told)}")
        assert status == 0, err
        text = (tmp_path / f"out{len(told)}/config.py").read_text()
        assert f"reduce_zero_label = {more.endswith('=true')}" in text
        assert told in text.splitlines()[0]


def test_a_sweep_of_hydra_has_a_folder_per_trial(train, pair, tmp_path):
    status, out, err = train(
        "-m",
        *finetune(pair, "init=null", "trainer.max_steps=1", "logger=none", "seed=0,1"),
        "hydra.sweep.dir=trials",
    )
    assert status == 0, err
    assert out.count("val/mIoU 0.") >= 2
    for trial in ("0", "1"):
        assert (tmp_path / "trials" / trial / "last.ckpt").exists()


def test_wandb_offline_keeps_scores_and_no_key(train, pair, tmp_path, monkeypatch, offline_wandb):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "deadbeef")
    monkeypatch.setenv("WANDB_SILENT", "true")
    status, _, err = train(
        *finetune(pair, "init=null", "trainer.max_steps=2", "logger=wandb", "run=here")
    )
    assert status == 0, err
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.suffix == ".wandb" for p in files)
    assert not any(b"deadbeef" in p.read_bytes() for p in files)


@pytest.mark.parametrize("recipe", ["samrs", "samtext"])
def test_a_store_made_from_boxes_is_learnt_from(recipe, train, tmp_path):
    if recipe == "samrs":
        create_dota(tmp_path / "data")
        images = Dota(root=str(tmp_path / "data"))
    else:
        create_video(tmp_path / "data", "csv", 4)
        images = VideoBoxes(root=str(tmp_path / "data"))
    label(
        image_set=images,
        masks=BoxMasks(segmenter=Ellipses()),
        features=None,
        assign=ByCategory(images),
        engine=LocalEngine(threads=1),
        root=tmp_path / "store",
        name=recipe,
        config="",
    )
    options = ("dataset=store", f"dataset.root={tmp_path}/store", "data.hold_out=0.5")
    steps = ("trainer.max_steps=1", "run=x", "logger=none")
    status, out, err = train("stage=pretrain", *options, *TINY, *steps)
    assert status == 0, err
    assert torch.load(tmp_path / "x/last.ckpt", weights_only=True)["global_step"] == 1
    assert re.match(r"val/mIoU \d", out.splitlines()[-1])
