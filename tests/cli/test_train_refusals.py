"""What train.py refuses, in one line each: words, numbers, files."""

import re
import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

from alps.cli.train_checks import check_values
from alps.errors import ConfigError
from tests.programs import LIGHTNING_WARNINGS, ROOT, composed, finetune

pytestmark = LIGHTNING_WARNINGS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"train.py needs a stage: stage=pretrain\|finetune\|test\|predict\|export"),
        (["stage=nosuch"], "Could not find 'stage/nosuch' .* export finetune predict pretrain"),
        (["stage=pretrain", "model=nosuch"], "'model/nosuch' .* convnext_tiny efficientnet_lite0"),
        (
            ["stage=pretrain", "data.crops=3"],
            r"data.crops: no such setting; did you mean data.crop\?",
        ),
        (
            ["stage=pretrain", "dataset=[potsdam,isaid]"],
            r"one dataset; train on several with \+dataset@datasets.a=NAME .* -m dataset=a,b",
        ),
        (
            ["stage=pretrain", "+dataset@datasets.a=sample"],
            r"dataset@datasets.a=sample has no labels .* then set dataset@datasets.a=store",
        ),
        (["stage=pretrain", "+dataset@datasets.a=store"], r"datasets.a.root=... must be given"),
        (
            ["stage=pretrain", "dataset=isaid", "+dataset@datasets.a=potsdam"],
            "either dataset or datasets, not both",
        ),
        (
            [
                *("stage=finetune", "experiment=potsdam", "init=null"),
                *("+dataset@datasets.a=isaid", "+dataset@datasets.b=loveda"),
            ],
            r"sets dataset=potsdam, .* because of datasets.a and datasets.b; remove it with "
            r"~dataset.* too with \+dataset@datasets.potsdam=potsdam",
        ),
        (["stage=pretrain", "~dataset", "+dataset@datasets.a=store"], r"a.root=... must be given"),
        (  # with the remedy it goes on to the data
            [
                *("stage=finetune", "experiment=potsdam", "init=null", "~dataset"),
                *("+dataset@datasets.potsdam=potsdam", "+dataset@datasets.b=loveda"),
            ],
            r"data/potsdam.*top_potsdam",
        ),
        (
            ["stage=pretrain", "experiment=alps_pretrain", "+dataset@datasets.a=store"],
            r"datasets.a.root=... must be given",  # the stage's own dataset gives way
        ),
        (
            ["stage=pretrain", "+dataset@datasets.a=potsdam", "loss.class_weights=[1]"],
            "class_weights belong to one dataset; with several, set null",
        ),
        (
            ["stage=test", "ckpt=x", "+dataset@datasets.a=potsdam"],
            "stage=test takes one dataset: dataset=NAME, and classifier=NAME",
        ),
        (["stage=pretrain", "dataset=sample"], r"no labels .*label.py \+dataset=sample"),
        (["stage=pretrain"], r"no label store .*make it with `python label.py \+dataset=samrs`"),
        (["stage=finetune", "init=null"], r"needs a dataset: dataset=atlas2023\|fast\|folder_pair"),
        (["stage=finetune", "dataset=potsdam"], "needs init=null .*, init=imagenet or init=FILE"),
        (["stage=finetune", "dataset=potsdam", "init=null"], r"data/potsdam.*top_potsdam"),
        (["stage=test"], r"ckpt=\.\.\. must be given"),
        (["stage=predict", "ckpt=x"], r"input=\.\.\. must be given"),
        (["stage=test", "ckpt=nosuch.ckpt"], "nosuch.ckpt"),
        (["stage=export"], r"ckpt=\.\.\. must be given"),
    ],
)
def test_wrong_command_lines_get_one_line(train, arguments, message, tmp_path):
    status, out, err = train(*arguments)
    assert status == 1
    assert re.fullmatch(f"error: .*{message}.*\n", err), err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def break_label(folder, change):
    path = next((folder / "ann_dir/train").iterdir())
    with Image.open(path) as image:
        label = np.array(image)
    Image.fromarray(change(label).astype(np.uint8)).save(path)


@pytest.mark.parametrize(
    ("breaks", "arguments", "message"),
    [
        (
            lambda p: break_label(
                p, lambda label: np.where(label == 3, 10, label).astype(np.uint8)
            ),
            ["dataset.classes=[a,b,c,d]"],
            r"contains the value 10 at \d+ pixels; expected 0 to 3 \(4 classes\) or 255",
        ),
        (lambda p: next((p / "ann_dir/train").iterdir()).unlink(), [], "1 of 6 .*label"),
        (
            lambda p: break_label(p, lambda label: label[:-8]),
            [],
            r"= \(56, 96\) and its image \(64, 96\); expected equal sizes",
        ),
        (lambda p: [f.unlink() for f in p.glob("*/train/*")], [], r"in train \(train 0, val 3"),
        (
            lambda p: break_label(p, lambda label: np.where(label == 3, 10, label)),
            ["dataset.classes=[a,b,c,d]", "data.num_workers=1"],
            r"the label of .* contains the value 10 at \d+ pixels; expected 0 to 3",
        ),
        (
            lambda p: break_label(p, lambda label: np.where(label == 3, 77, label)),
            [],
            r"contains the label 77, but no file contains 4; .*dataset.ignore_index=77",
        ),
        (lambda p: None, ["dataset.classes=road"], "classes=road: expected a list of distinct"),
        (lambda p: None, ["dataset.classes=[a,a]"], r"classes=\['a', 'a'\]: expected a list"),
        (lambda p: None, ["trainer.val_check_interval=3"], "3 does not divide .*try 1, 2"),
        (lambda p: None, ["trainer.max_steps=0"], "max_steps=0: expected"),
        (lambda p: None, ["data.crop=50"], "data.crop=50: .*multiple of 32 px"),
        (lambda p: None, ["data.batch_size=0"], "batch_size=0: expected an integer >= 1"),
        (lambda p: None, ["model.encoder=test_resnets"], "no encoder 'test_resnets'; similar na"),
        (
            lambda p: None,
            ["optim.schedule=step"],
            "optim.schedule=step: expected poly, cosine",
        ),
        (lambda p: None, ["resume=nosuch.ckpt"], "nosuch.ckpt: no such file; pass the best.ckpt"),
        (lambda p: None, ["init=None"], "init=None: no such file; expected null, imagenet or"),
        (
            lambda p: None,
            ["data.scale=[-1.0,1.0]"],
            r"data.scale=\[-1.0, 1.0\]: expected the minimum and",
        ),
        (lambda p: None, ["data.scale_p=2.0"], "data.scale_p=2.0: expected a probability"),
        (lambda p: None, ["data.cat_max_ratio=0.0"], "cat_max_ratio=0.0: expected a fraction > 0"),
        (
            lambda p: None,
            ["data.ignore_border=-1"],
            "ignore_border=-1: expected an integer number of pixels >= 0",
        ),
        (
            lambda p: None,
            ["data.fraction=2.0"],
            "fraction=2.0: expected a fraction .* > 0 and <= 1",
        ),
        (
            lambda p: None,
            ["loss.class_weights=[1.0,2.0]"],
            "class_weights has 2 numbers, but .* 4 classes; set one",
        ),
        (lambda p: None, ["loss.label_smoothing=2.0"], "label_smoothing=2.0: expected a fraction"),
        (lambda p: None, ["optim.lr=0.0"], "optim.lr=0.0: expected a number > 0"),
        (lambda p: None, ["head.channels=100"], "no model can be built with .*channels"),
        (lambda p: None, ["seed=-1"], "seed=-1: expected an integer >= 0"),
        (lambda p: None, ["+optim.optimizer.eps=-1"], "optim.optimizer=.*eps=-1.*: Invalid"),
        (lambda p: None, ["+optim.optimizer.eps=null"], "optim.optimizer=.*eps=None"),
        (
            lambda p: None,
            ["window.crop=0"],
            "window.crop=0: expected an integer number of pixels >= 1",
        ),
        (lambda p: None, ["run=/proc/x"], "cannot write to /proc/x: .*run=DIR"),
        (
            lambda p: None,
            ["optim.lr=1e30", "optim.warmup=0.0"],
            r"the loss is nan at step \d \(batch",
        ),
    ],
)
def test_bad_input_gets_one_line(train, pair, breaks, arguments, message):
    breaks(pair)
    options = ["init=null", "trainer.max_steps=4", "logger=none", *arguments]
    status, _, err = train(*finetune(pair, *options))
    assert status == 1
    assert re.fullmatch(f"error: .*{message}.*\n", err.splitlines(keepends=True)[-1]), err


NUMBERS = {
    *("data.batch_size", "data.scale_p", "data.photometric", "data.cat_max_ratio"),
    *("data.ignore_border", "data.fraction", "data.hold_out"),
    *("loss.label_smoothing", "window.overlap"),
    *("optim.weight_decay", "optim.layer_decay", "optim.warmup", "optim.power", "optim.min_lr"),
    *("optim.lr", "window.batch_size", "trainer.max_steps"),
    *("trainer.accumulate_grad_batches", "trainer.num_sanity_val_steps"),
    *("trainer.log_every_n_steps", "data.scale", "window.scales"),
}
NUMBERS_OR_NULL = {
    *("data.crop", "data.num_workers", "window.crop", "loss.class_weights"),
    *("trainer.gradient_clip_val", "trainer.val_check_interval", "trainer.check_val_every_n_epoch"),
    "trainer.max_epochs",
}


def test_a_number_that_is_none_is_refused_by_its_key(monkeypatch):
    """Every number of these groups as null, or as a word where it may be null."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are the user's
    cfg = composed("stage=finetune", "optim.lr=0.1")
    found = {
        f"{group}.{key}"
        for group in ("data", "loss", "optim", "window", "trainer")
        for key, value in cfg[group].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert found <= NUMBERS | NUMBERS_OR_NULL | {"trainer.devices"}  # or a list, or auto
    values = dict.fromkeys(NUMBERS, None) | dict.fromkeys(NUMBERS_OR_NULL, "few")
    for key, value in values.items():
        changed = cfg.copy()
        OmegaConf.update(changed, key, value, force_add=True)
        written = "null" if value is None else value
        with pytest.raises(ConfigError, match=rf"^{key}={written}: expected "):
            check_values(changed)


@pytest.mark.parametrize("word", ["logger=null", "+dataset@datasets.a=null"])
def test_a_group_that_is_null_is_one_line(word, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "stage=pretrain", word],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {word}: not a valid choice; expected ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there(train, pair, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = train(*finetune(pair, "init=null", "trainer=gpu"))
    assert status == 1
    assert "accelerator=gpu, but torch" in err.splitlines()[-1]
    assert (
        "finds no GPU; check the driver and the build of torch, or use the CPU: trainer=cpu" in err
    )


def test_a_checkpoint_cannot_name_code_to_run(train, pair, tmp_path):
    status, _, err = train(
        *finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    )
    assert status == 0, err
    content = torch.load(tmp_path / "x/last.ckpt", weights_only=True)
    head = {"_target_": "alps.models.heads.FPN", "channels": {"_target_": "os.system"}}
    for part, evil, harm in (
        ("head", {"_target_": "os.system", "_args_": ["touch harm"]}, "os.system"),
        ("head", head, "os.system"),
        ("dataset", {"_target_": "alps.prediction.files.Path.unlink", "_args_": [str(pair)]}, ""),
        (
            "dataset",
            {"_target_": "alps.images.pixels.folder_pair.Path"},
            "alps.images.pixels.folder_pair.Path",
        ),
        ("dataset", {"_target_": "alps.images.pixels.folder_pair.read_labels"}, "read_labels"),
        ("head", {"_target_": "alps.pretrained.cache.urllib.request.urlretrieve"}, "urlretrieve"),
    ):
        config = yaml.safe_load(content["alps"]["config"])
        config[part] = evil
        changed = {**content, "alps": {**content["alps"], "config": yaml.safe_dump(config)}}
        torch.save(changed, tmp_path / "evil.ckpt")
        status, _, err = train("stage=test", "ckpt=evil.ckpt", "trainer=cpu", "logger=none")
        assert status == 1
        assert re.search(rf"would call \S*{harm}, expected a class of alps", err), err
        assert not (tmp_path / "harm").exists()
        assert pair.exists()


def one_class_less(folder, splits):
    for split in splits:
        for path in (folder / "ann_dir" / split).iterdir():
            with Image.open(path) as image:
                label = np.array(image)
            Image.fromarray(np.where(label == 3, 255, label).astype(np.uint8)).save(path)


def test_a_class_that_does_not_occur_is_told_with_its_score(train, pair, tmp_path):
    one_class_less(pair, ["val"])
    words = finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    status, out, err = train(*words)
    assert status == 0, err
    line = (
        "folder_pair: 1 of 4 classes do not occur in the 3 labels of val: 3; mean scores "
        "exclude them: add images with these classes"
    )
    assert line in err.splitlines()
    assert "do not occur in the 3 labels of train" not in err
    # A class that is predicted, though no pixel is of it, counts as 0.
    (iou,) = re.findall(r"│ 3 +│ +(\S+) │", out)
    over = "" if iou == "0.0000" else "  over 3 of 4 classes"
    assert re.fullmatch(rf"val/mIoU \S+  val/mF1 \S+  val/OA \S+{over}", out.splitlines()[-1])
    status, _, err = train(*words, "run=y", "strict=true")
    assert (status, err.splitlines()[-1]) == (
        1,
        f"error: strict=true, and folder_pair has 1 finding: {line.partition(': ')[2]}",
    )
    status, _, err = train(*words, "strict=perhaps")
    assert (status, err) == (1, "error: strict=perhaps: expected true or false\n")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_labelled_pixel_is_refused(train, pair, tmp_path, split):
    for path in (pair / "ann_dir" / split).iterdir():
        Image.fromarray(np.full((64, 96), 255, np.uint8)).save(path)
    words = finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    status, out, err = train(*words, "dataset.classes=[a,b,c,d]")
    assert (status, out) == (1, "")
    expected = (
        rf"error: folder_pair: no pixel of {split} is labelled: all 3 labels contain only 255.*\n"
    )
    assert re.fullmatch(expected, err), err
    assert not (tmp_path / "x").exists()
