"""train.py as a user meets it: main() in this process, its output and its exit."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from PIL import Image

import train
from alps.errors import one_line_errors
from tests.factories import create_folder_pair

ROOT = Path(__file__).parents[1]
#: A net of 370,000 weights, crops of 64 px.
TINY = (
    "model=timm",
    "model.encoder=test_resnet",
    "head=fpn",
    "head.channels=32",
    "head.pyramid_channels=32",
    "trainer=cpu",
    "data.batch_size=2",
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",  # Lightning on torch 2.15
    "ignore:.*does not have many workers",
)


@pytest.fixture
def pair(tmp_path):
    create_folder_pair(tmp_path / "pair", n=3, size=(64, 96))
    return tmp_path / "pair"


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Call train.py; returns (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        GlobalHydra.instance().clear()
        status = 0
        try:
            with one_line_errors(*train.CONFIG_ERRORS):
                train.main()
        except SystemExit as exit_:
            status = exit_.code
        out, err = capfd.readouterr()
        return status, out, err

    return call


def finetune(root, *more):
    return ("stage=finetune", "dataset=folder_pair", f"dataset.root={root}", *TINY, *more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"train.py needs a stage: stage=pretrain\|finetune\|test\|predict"),
        (["stage=nosuch"], "Could not find 'stage/nosuch' .* finetune predict pretrain test"),
        (["stage=pretrain", "model=nosuch"], "'model/nosuch' .* convnext_tiny efficientnet_lite0"),
        (["stage=pretrain", "data.crops=3"], "Could not override 'data.crops'"),
        (["stage=pretrain", "dataset=[potsdam,isaid]"], "one dataset a run"),
        (["stage=pretrain", "dataset=sample"], r"no labels .*label.py \+dataset=sample"),
        (["stage=pretrain"], r"no label store .*make it with `python label.py \+dataset=samrs`"),
        (["stage=finetune", "init=null"], r"needs a dataset: dataset=folder_pair\|isaid"),
        (["stage=finetune", "dataset=potsdam"], "needs init=null .*, init=imagenet or init=FILE"),
        (["stage=finetune", "dataset=potsdam", "init=null"], r"data/potsdam.*top_potsdam"),
        (["stage=test"], r"ckpt=\.\.\. must be given"),
        (["stage=predict", "ckpt=x"], r"input=\.\.\. must be given"),
        (["stage=test", "ckpt=nosuch.ckpt"], "nosuch.ckpt"),
    ],
)
def test_wrong_command_lines_get_one_line(run, arguments, message, tmp_path):
    status, out, err = run(*arguments)
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
            r"holds the value 10 at \d+ pixels; expected 0 to 3 \(4 classes\) or 255",
        ),
        (lambda p: next((p / "ann_dir/train").iterdir()).unlink(), [], "1 of 6 .*label"),
        (
            lambda p: break_label(p, lambda label: label[:-8]),
            [],
            r"= \(56, 96\), its image \(64, 96\); expected one size",
        ),
        (lambda p: [f.unlink() for f in p.glob("*/train/*")], [], "train 0, val 3"),
        (lambda p: None, ["trainer.val_check_interval=3"], "3 does not divide .*try 1, 2"),
        (lambda p: None, ["trainer.max_steps=0"], "max_steps=0: expected"),
        (lambda p: None, ["data.crop=50"], "data.crop=50: .*multiple of 32 px; try 64"),
        (lambda p: None, ["data.batch_size=0"], "batch_size=0: expected at least 1"),
        (lambda p: None, ["model.encoder=test_resnets"], "no encoder 'test_resnets'; near it"),
        (lambda p: None, ["optim.schedule=step"], "choose poly, cosine, constant"),
        (lambda p: None, ["resume=nosuch.ckpt"], "resume=nosuch.ckpt: no such file"),
        (
            lambda p: None,
            ["optim.lr=1e30", "optim.warmup=0.0"],
            r"the loss is nan at step \d \(batch",
        ),
    ],
)
def test_bad_input_gets_one_line(run, pair, breaks, arguments, message):
    breaks(pair)
    options = ["init=null", "trainer.max_steps=4", "logger=none", *arguments]
    status, _, err = run(*finetune(pair, *options))
    assert status == 1
    assert re.fullmatch(f"error: .*{message}.*\n", err.splitlines(keepends=True)[-1]), err


def test_train_resume_test_and_predict(run, pair, tmp_path):
    """One life of a net: from random weights to index maps."""
    steps = ("trainer.max_steps=4", "trainer.val_check_interval=2")
    status, out, err = run(*finetune(pair, "init=null", *steps, "run=first"))
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

    # The same weights start another net, with other classes: the last layer is new.
    create_folder_pair(tmp_path / "other", n=2, num_classes=3)
    more = ("init=first/last.ckpt", "trainer.max_steps=1", "run=second", "logger=none")
    status, out, err = run(*finetune(tmp_path / "other", *more))
    assert status == 0, err
    assert re.match(
        r"init from first/last.ckpt: encoder (\d+) of \1 tensors, head (\d+) of \2", out
    )
    status, _, err = run(*finetune(tmp_path / "other", *more, "init_skip=[]"))
    assert (status, err.splitlines()[-1]) == (
        1,
        "error: classifier has 4 classes in first/last.ckpt and 3 here; "
        "init_skip=[classifier] starts the last layer anew",
    )
    status, _, err = run(*finetune(tmp_path / "other", *more, "model.encoder=test_vit"))
    assert status == 1
    assert "first/last.ckpt is a checkpoint of another net" in err.splitlines()[-1]

    status, out, err = run("stage=test", "ckpt=first/last.ckpt", "trainer=cpu", "logger=none")
    assert status == 0, err
    assert out.splitlines()[-1].startswith("test/mIoU 0.")
    assert "3 whole images" in out
    status, _, err = run(
        *("stage=test", "ckpt=first/last.ckpt", "dataset=folder_pair"),
        f"dataset.root={tmp_path}/other",
    )
    assert status == 1
    assert "knows 4 classes (folder_pair pair: 4 classes" in err.splitlines()[-1]

    status, out, err = run(
        *(
            "stage=predict",
            "ckpt=first/last.ckpt",
            f"input={pair}/img_dir",
            "output=maps",
            "trainer=cpu",
        )
    )
    assert status == 0, err
    assert "6 predicted, 0 were there, 0 skipped" in out
    with Image.open(tmp_path / "maps/val/0.png") as image:
        found = np.array(image)
    assert found.shape == (64, 96)
    assert set(np.unique(found)) <= {0, 1, 2, 3}


def test_a_run_goes_on_in_its_folder(run, pair, tmp_path):
    base = ("init=null", "logger=csv", "trainer.max_steps=4", "trainer.val_check_interval=2")
    status, _, err = run(*finetune(pair, *base, "run=whole"))
    assert status == 0, err
    status, _, err = run(*finetune(pair, *base, "run=broken", "optim.lr=1e-4"))
    last = torch.load(tmp_path / "broken/last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    status, out, err = run(
        *finetune(pair, "init=null", "trainer.max_steps=6", "trainer.val_check_interval=2"),
        "resume=broken/last.ckpt",
    )
    assert status == 0, err
    assert re.findall(r"step (\d)/6", out) == ["6"]
    assert torch.load(tmp_path / "broken/last.ckpt", weights_only=True)["global_step"] == 6
    assert (tmp_path / "broken/csv/version_1/metrics.csv").exists()  # the first curve is kept
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_cannot_name_code_to_run(run, pair, tmp_path):
    status, _, err = run(
        *finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    )
    assert status == 0, err
    content = torch.load(tmp_path / "x/last.ckpt", weights_only=True)
    for head in (
        {"_target_": "os.system", "_args_": ["touch harm"]},
        {"_target_": "alps.models.heads.fpn.FPN", "channels": {"_target_": "os.system"}},
    ):
        config = yaml.safe_load(content["alps"]["config"])
        config["head"] = head
        content["alps"]["config"] = yaml.safe_dump(config)
        torch.save(content, tmp_path / "evil.ckpt")
        status, _, err = run("stage=predict", "ckpt=evil.ckpt", f"input={pair}/img_dir")
        assert status == 1
        assert "would call os.system, expected classes of alps alone" in err
        assert not (tmp_path / "harm").exists()


def test_help_shows_its_own_groups_and_commands():
    for program, groups in (("label", LABEL_GROUPS), ("train", TRAIN_GROUPS)):
        done = subprocess.run(
            [sys.executable, ROOT / f"{program}.py", "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        help_ = done.stdout.split("Keys and their defaults")[0]
        listed = {
            line.split()[0]: set(line.split()[1:])
            for line in help_.split("Groups")[1].splitlines()[2:]
            if line.strip()
        }
        assert listed.keys() == set(groups)
        for group, choices in listed.items():
            on_disk = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
            if group != "dataset":
                assert choices == on_disk, group
            assert choices <= on_disk
        assert f"python {program}.py " in help_


LABEL_GROUPS = ("dataset", "recipe", "masks", "features", "assign", "sam", "engine")
TRAIN_GROUPS = (
    *("stage", "dataset", "model", "head", "data", "loss", "optim", "window"),
    *("trainer", "callbacks", "logger", "experiment"),
)


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize(
    ("group", "choice"),
    [
        (group, path.stem)
        for group in TRAIN_GROUPS
        if group not in ("stage", "dataset")
        for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
    ],
)
def test_every_yaml_composes_and_instantiates(group, choice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    own = ["model.encoder=test_vit"] if choice == "timm" else []
    cfg = composed("stage=pretrain", f"{group}={choice}", *own)
    cfg.run = str(tmp_path)
    model = train.build_model(cfg, 3)
    assert model.num_classes == 3
    assert instantiate(cfg.window, crop=64).windows((64, 64))
    assert instantiate(cfg.loss, ignore_index=255).ignore_index == 255
    optimizer, _ = instantiate(cfg.optim).build(model, 10)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len([*model.parameters()])
    if choice in ("gpu", "slurm") and not torch.cuda.is_available():
        return  # Lightning refuses to build these without a GPU; they composed
    cfg.trainer.devices = 1
    assert train.build_trainer(cfg).max_steps == cfg.trainer.max_steps


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "test", "predict"])
def test_every_stage_composes(stage):
    assert composed(f"stage={stage}").stage == stage


def test_a_sweep_of_hydra_has_a_folder_per_trial(run, pair, tmp_path):
    status, out, err = run(
        "-m",
        *finetune(pair, "init=null", "trainer.max_steps=1", "logger=none", "seed=0,1"),
        "hydra.sweep.dir=trials",
    )
    assert status == 0, err
    assert out.count("val/mIoU 0.") >= 2
    for trial in ("0", "1"):
        assert (tmp_path / "trials" / trial / "last.ckpt").exists()


def test_wandb_offline_keeps_scores_and_no_key(run, pair, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "deadbeef")
    monkeypatch.setenv("WANDB_SILENT", "true")
    status, _, err = run(
        *finetune(pair, "init=null", "trainer.max_steps=2", "logger=wandb", "run=here")
    )
    assert status == 0, err
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.suffix == ".wandb" for p in files)
    assert not any(b"deadbeef" in p.read_bytes() for p in files)
