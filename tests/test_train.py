"""train.py as a user meets it: main() in this process, its output and its exit."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import jaxtyping
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import train
from alps.assign.category import ByCategory
from alps.engine.local import LocalEngine
from alps.images.dota import Dota
from alps.images.video import VideoBoxes
from alps.labelling import label
from alps.masks.box import BoxMasks
from tests.box_formats import create_dota
from tests.factories import create_folder_pair, create_potsdam
from tests.fakes import Ellipses
from tests.programs import ROOT, TINY, call_train, composed
from tests.videos import create_video

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
    return lambda *arguments: call_train(arguments, monkeypatch, capfd)


def finetune(root, *more):
    return ("stage=finetune", "dataset=folder_pair", f"dataset.root={root}", *TINY, *more)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"train.py needs a stage: stage=pretrain\|finetune\|test\|predict\|export"),
        (["stage=nosuch"], "Could not find 'stage/nosuch' .* export finetune predict pretrain"),
        (["stage=pretrain", "model=nosuch"], "'model/nosuch' .* convnext_tiny efficientnet_lite0"),
        (["stage=pretrain", "data.crops=3"], "Could not override 'data.crops'"),
        (
            ["stage=pretrain", "dataset=[potsdam,isaid]"],
            r"one dataset; several at once are \+dataset@datasets.a=NAME .* one by one",
        ),
        (
            ["stage=pretrain", "+dataset@datasets.a=sample"],
            r"dataset@datasets.a=sample has no labels .* give that: dataset@datasets.a=store",
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
            r"chooses dataset=potsdam, .* beside datasets.a and datasets.b; drop it with ~dataset"
            r".* say \+dataset@datasets.potsdam=potsdam",
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
            "class_weights are of one dataset; with several leave them null",
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
        (lambda p: [f.unlink() for f in p.glob("*/train/*")], [], r"in train \(train 0, val 3"),
        (
            lambda p: break_label(p, lambda label: np.where(label == 3, 10, label)),
            ["dataset.classes=[a,b,c,d]", "data.num_workers=1"],
            r"the label of .* holds the value 10 at \d+ pixels; expected 0 to 3",
        ),
        (
            lambda p: break_label(p, lambda label: np.where(label == 3, 77, label)),
            [],
            r"holds the label 77, but no file holds 4; .*dataset.ignore_index=77",
        ),
        (lambda p: None, ["dataset.classes=road"], "classes=road: expected a list of different"),
        (lambda p: None, ["dataset.classes=[a,a]"], r"classes=\['a', 'a'\]: expected a list"),
        (lambda p: None, ["trainer.val_check_interval=3"], "3 does not divide .*try 1, 2"),
        (lambda p: None, ["trainer.max_steps=0"], "max_steps=0: expected"),
        (lambda p: None, ["data.crop=50"], "data.crop=50: .*multiple of 32 px"),
        (lambda p: None, ["data.batch_size=0"], "batch_size=0: expected a whole number from 1"),
        (lambda p: None, ["model.encoder=test_resnets"], "no encoder 'test_resnets'; near it"),
        (lambda p: None, ["optim.schedule=step"], "choose poly, cosine, constant"),
        (lambda p: None, ["resume=nosuch.ckpt"], "nosuch.ckpt: no such file; give the best.ckpt"),
        (lambda p: None, ["init=None"], "init=None: no such file; expected null, imagenet or"),
        (
            lambda p: None,
            ["data.scale=[-1.0,1.0]"],
            r"data.scale=\[-1.0, 1.0\]: expected the least and",
        ),
        (lambda p: None, ["data.scale_p=2.0"], "data.scale_p=2.0: expected a probability"),
        (lambda p: None, ["data.cat_max_ratio=0.0"], r"cat_max_ratio=0.0: expected a share in \(0"),
        (lambda p: None, ["data.fraction=2.0"], r"data.fraction=2.0: expected a share .* \(0, 1\]"),
        (
            lambda p: None,
            ["loss.class_weights=[1.0,2.0]"],
            "class_weights has 2 numbers, .* 4 classes",
        ),
        (lambda p: None, ["loss.label_smoothing=2.0"], "label_smoothing=2.0: expected a share"),
        (lambda p: None, ["optim.lr=0.0"], "optim.lr=0.0: expected a number above 0"),
        (lambda p: None, ["head.channels=100"], "no net can be built with .*channels"),
        (lambda p: None, ["seed=-1"], "seed=-1: expected a whole number from 0 on"),
        (lambda p: None, ["+optim.optimizer.eps=-1"], "optim.optimizer=.*eps=-1.*: Invalid"),
        (lambda p: None, ["window.crop=0"], "window.crop=0: expected whole pixels from 1 on"),
        (lambda p: None, ["run=/proc/x"], "cannot write to /proc/x: .*run=DIR"),
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


NUMBERS = {
    *("data.batch_size", "data.scale_p", "data.photometric", "data.cat_max_ratio"),
    *("data.fraction", "data.hold_out", "loss.label_smoothing", "window.overlap"),
    *("optim.weight_decay", "optim.layer_decay", "optim.warmup", "optim.power", "optim.min_lr"),
    *("optim.lr", "optim.optimizer.eps", "window.batch_size", "trainer.max_steps"),
    *("trainer.accumulate_grad_batches", "trainer.num_sanity_val_steps"),
    *("trainer.log_every_n_steps", "data.scale", "window.scales"),
}
NUMBERS_OR_NULL = {
    *("data.crop", "data.num_workers", "window.crop", "loss.class_weights"),
    *("trainer.gradient_clip_val", "trainer.val_check_interval", "trainer.check_val_every_n_epoch"),
    "trainer.max_epochs",
}


def test_a_number_that_is_none_is_one_line(run, tmp_path, monkeypatch):
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
    create_folder_pair(tmp_path / "pair", n=3, splits=("train",))
    values = dict.fromkeys(sorted(NUMBERS), "null") | dict.fromkeys(sorted(NUMBERS_OR_NULL), "few")
    for key, value in values.items():
        words = ("init=null", "trainer.max_steps=1", "logger=none", f"++{key}={value}")
        status, _, err = run(*finetune(tmp_path / "pair", *words))
        assert status == 1, key
        assert re.match(f"error: .*{key.rpartition('.')[2]}=.*", err.splitlines()[-1]), err
        assert len(err.splitlines()) < 3, err


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
    other = ("stage=test", "ckpt=first/last.ckpt", "dataset=folder_pair")
    status, _, err = run(*other, f"dataset.root={tmp_path}/other")
    assert status == 1
    assert "knows the classes 0, 1, 2, 3 (folder_pair pair: 4 classes" in err.splitlines()[-1]
    pair.rename(tmp_path / "moved")
    moved = ("stage=test", "ckpt=first/last.ckpt", "trainer=cpu", "logger=none")
    status, _, err = run(*moved)
    assert (status, "no image under" in err) == (1, True)
    status, again, err = run(*moved, f"+dataset.root={tmp_path}/moved")
    assert again.splitlines()[-1] == out.splitlines()[-1], err
    status, _, err = run(*moved, "model=swin_tiny")
    assert "model=swin_tiny: stage=test takes the net of ckpt=first/last.ckpt" in err

    maps = ("stage=predict", f"input={tmp_path}/moved/img_dir", "output=maps", "trainer=cpu")
    status, out, err = run(*maps, "ckpt=first/last.ckpt")
    assert status == 0, err
    assert "6 predicted, 0 were there, 0 skipped" in out
    status, out, err = run(*maps, "ckpt=first/last.ckpt", "window.batch_size=1")
    assert "0 predicted, 6 were there, 0 skipped" in out, err
    status, _, err = run(*maps, "ckpt=first/last.ckpt", "window.overlap=0.25")
    assert "made otherwise (predictor.json: window.overlap was 0.5, is 0.25)" in err
    with Image.open(tmp_path / "maps/val/0.png") as image:
        found = np.array(image)
    assert found.shape == (64, 96)
    assert set(np.unique(found)) <= {0, 1, 2, 3}


def test_a_run_goes_on_in_its_folder_and_in_its_words(run, pair, tmp_path):
    base = finetune(pair, "init=null", "trainer.val_check_interval=2", "logger=csv")
    status, _, err = run(*base, "trainer.max_steps=4", "run=here")
    assert status == 0, err
    status, _, err = run(*base, "trainer.max_steps=4", "run=here")
    assert (status, err.splitlines()[-1]) == (
        1,
        "error: here holds a run: resume=here/last.ckpt goes on with it, another run=DIR starts a "
        "new one",
    )
    resume = (*base, "resume=here/last.ckpt")
    for more, message in (
        (("trainer.max_steps=4",), r"is finished \(step 4\); a larger trainer.max_steps goes on"),
        (("trainer.max_steps=6", "optim.lr=1e-2"), "optim.lr was 0.0001, is 0.01; say what was"),
        (("trainer.max_steps=6", "data.batch_size=3"), "data.batch_size was 2, is 3"),
        (("trainer.max_steps=6", "run=there"), "run=there: resume=here/last.ckpt goes on in its"),
    ):
        status, _, err = run(*resume, *more)
        assert status == 1
        assert re.search(message, err.splitlines()[-1]), err
    status, out, err = run(*resume, "trainer.max_steps=6")
    assert status == 0, err
    assert re.findall(r"step (\d)/6", out) == ["6"]
    assert torch.load(tmp_path / "here/last.ckpt", weights_only=True)["global_step"] == 6
    assert (tmp_path / "here/csv/version_1/metrics.csv").exists()  # the first curve is kept
    assert not (tmp_path / "runs").exists()


def test_a_test_sees_the_images_that_were_held_out(run, tmp_path):
    create_folder_pair(tmp_path / "pair", n=8, splits=("train",))
    more = ("init=null", "trainer.max_steps=1", "data.hold_out=0.5", "seed=3", "run=x")
    status, out, err = run(*finetune(tmp_path / "pair", *more, "logger=none"))
    assert status == 0, err
    status, again, err = run("stage=test", "ckpt=x/last.ckpt", "trainer=cpu", "logger=none")
    assert status == 0, err
    assert "4 whole images" in again
    assert again.splitlines()[-1] == out.splitlines()[-1].replace("val/", "test/")


def test_a_net_scored_by_windows_of_any_size_is_tested_by_them(run, pair):
    more = ("init=null", "trainer.max_steps=1", "window.crop=50", "run=x", "logger=none")
    status, out, err = run(*finetune(pair, *more))
    assert status == 0, err
    status, again, err = run("stage=test", "ckpt=x/last.ckpt", "trainer=cpu", "logger=none")
    assert status == 0, err
    assert again.splitlines()[-1] == out.splitlines()[-1].replace("val/", "test/")


def test_a_gpu_that_is_not_there(run, pair, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = run(*finetune(pair, "init=null", "trainer=gpu"))
    assert status == 1
    assert "accelerator=gpu: torch" in err.splitlines()[-1]
    assert "sees no GPU; mend that, or compute on the CPU with trainer=cpu" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(pair, tmp_path, number, status):
    options = finetune(pair, "init=null", "trainer.max_steps=2000", "run=x", "logger=none")
    words = ("trainer.val_check_interval=1000", *options)
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        while not (tmp_path / "x/config.yaml").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    found = re.search(r"stopped after step (\d+); .* resume=x/last.ckpt go on", err)
    assert found, err
    last = torch.load(tmp_path / "x/last.ckpt", weights_only=True)
    assert last["global_step"] == int(found[1])


@pytest.mark.two_processes
def test_two_processes_are_stopped_as_a_group(pair, tmp_path):
    """As a terminal or a job does it: the loaders' processes get the signal, too."""
    options = finetune(pair, "init=null", "trainer.max_steps=2000", "logger=none")
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.num_workers=1")
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *options, *ddp, "trainer.val_check_interval=2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("step 2/"):
                break
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (found,) = re.findall(r"stopped after step (\d+); .* resume=(\S+) go on", err)
    last = torch.load(tmp_path / found[1], weights_only=True)
    assert last["global_step"] == int(found[0]) >= 2
    assert "Traceback" not in err
    assert ("".join(lines) + out + err).count("has 4 classes") == 1


def curve(folder):
    """All that the runs in a folder have logged, by step, without how fast they were."""
    points = {}
    for path in sorted(folder.glob("csv/*/metrics.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                told = {k: v for k, v in row.items() if v and k != "train/images_per_second"}
                points.setdefault(int(row["step"]), {}).update(told)
    return points


@pytest.mark.parametrize("max_steps", [2, 4])
def test_a_validation_that_met_a_broken_image_is_made_up_for(run, pair, tmp_path, max_steps):
    steps = (f"trainer.max_steps={max_steps}", "trainer.val_check_interval=2")
    words = finetune(pair, "init=null", *steps)
    status, whole, err = run(*words, "run=whole")
    assert status == 0, err
    image = next((pair / "img_dir/val").iterdir())
    content = image.read_bytes()
    image.write_bytes(b"no image")
    status, _, err = run(*words, "run=broken")
    assert (status, image.name in err.splitlines()[-1]) == (1, True), err
    image.write_bytes(content)
    status, out, err = run(*words, "resume=broken/last.ckpt")
    assert status == 0, err
    assert re.findall(r"step (\d)/", out) == [str(n) for n in range(2, max_steps + 1, 2)]
    assert out.splitlines()[-1] == whole.splitlines()[-1]
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")
    status, _, err = run(*words, "resume=broken/last.ckpt")
    assert (status, f"is finished (step {max_steps})" in err) == (1, True)


def test_a_requeued_job_goes_on_where_it_was(run, pair, tmp_path, monkeypatch):
    """SLURM runs the same words again, in the folder of the job."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin/scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    slurm = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.strategy=auto")
    steps = ("trainer.max_steps=8", "trainer.val_check_interval=2")
    words = [word for word in finetune(pair, "init=null", *steps) if word != "trainer=cpu"]
    status, whole, err = run(*words, "trainer=cpu", "run=whole")
    assert status == 0, err
    words += ["trainer=slurm", *slurm]
    folder = tmp_path / "runs/finetune/77"

    def stop(step, number):
        target = "+callbacks.stop._target_=tests.training.test_interrupt.Stop"
        return (target, f"+callbacks.stop.step={step}", f"+callbacks.stop.what={int(number)}")

    status, _, err = run(*words, *stop(3, signal.SIGUSR1))  # SLURM's warning, which requeues
    assert (status, "stopped after step 3" in err) == (128 + signal.SIGUSR1, True), err
    assert (tmp_path / "told").read_text() == "requeue 77\n"
    assert (folder / "hpc_ckpt_1.ckpt").exists()
    status, out, err = run(*words, *stop(5, signal.SIGTERM))
    assert (status, re.findall(r"step (\d)/8", out)) == (143, ["4"]), err
    (folder / "hpc_ckpt_1.ckpt").unlink()
    status, out, err = run(*words)
    assert (status, re.findall(r"step (\d)/8", out)) == (0, ["6", "8"]), err
    assert out.splitlines()[-1] == whole.splitlines()[-1]
    assert curve(folder) == curve(tmp_path / "whole")
    assert [p.name for p in folder.parent.iterdir()] == ["77"]


SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "alps",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
}


def test_of_a_job_the_newest_checkpoint_counts(tmp_path):
    assert train.newest_checkpoint(tmp_path) is None
    for age, name in enumerate(["hpc_ckpt_2.ckpt", "last.ckpt", "hpc_ckpt_1.ckpt", "best.ckpt"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (10 - age, 10 - age))
    assert train.newest_checkpoint(tmp_path) == str(tmp_path / "hpc_ckpt_2.ckpt")
    os.utime(tmp_path / "last.ckpt", (20, 20))
    assert train.newest_checkpoint(tmp_path) == str(tmp_path / "last.ckpt")


def test_export_for_mmsegmentation(run, pair, tmp_path):
    """tests/mmsegmentation lets mmsegmentation score what is written."""
    status, _, err = run(
        *finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    )
    assert status == 0, err
    status, out, err = run("stage=export", "ckpt=x/last.ckpt", "output=out", "window.overlap=0.25")
    assert status == 0, err
    assert out == "out: config.py and weights.pth for mmsegmentation\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.py",
        "weights.pth",
    ]
    text = (tmp_path / "out/config.py").read_text()
    assert text.startswith("# last.ckpt, step 1; folder_pair pair: ")
    assert re.search(r"'crop_size': \(64, 64\), 'stride': \(48, 48\)", text)
    status, _, err = run("stage=export", "ckpt=x/last.ckpt", "output=out")
    assert status == 1
    assert "is there already" in err
    status, _, err = run(*finetune(pair, "init=out/weights.pth", "trainer.max_steps=1", "run=y"))
    assert status == 0, err


def test_a_checkpoint_cannot_name_code_to_run(run, pair, tmp_path):
    status, _, err = run(
        *finetune(pair, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    )
    assert status == 0, err
    content = torch.load(tmp_path / "x/last.ckpt", weights_only=True)
    head = {"_target_": "alps.models.heads.fpn.FPN", "channels": {"_target_": "os.system"}}
    for part, evil, harm in (
        ("head", {"_target_": "os.system", "_args_": ["touch harm"]}, "os.system"),
        ("head", head, "os.system"),
        ("dataset", {"_target_": "alps.training.predict.Path.unlink", "_args_": [str(pair)]}, ""),
        ("dataset", {"_target_": "alps.images.folder_pair.Path"}, "alps.images.folder_pair.Path"),
        ("dataset", {"_target_": "alps.images.folder_pair.read_labels"}, "read_labels"),
        ("head", {"_target_": "alps.weights.urllib.request.urlretrieve"}, "urlretrieve"),
    ):
        config = yaml.safe_load(content["alps"]["config"])
        config[part] = evil
        changed = {**content, "alps": {**content["alps"], "config": yaml.safe_dump(config)}}
        torch.save(changed, tmp_path / "evil.ckpt")
        status, _, err = run("stage=test", "ckpt=evil.ckpt", "trainer=cpu", "logger=none")
        assert status == 1
        assert re.search(rf"would call \S*{harm}, expected a class of alps", err), err
        assert not (tmp_path / "harm").exists()
        assert pair.exists()


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
    assert done.stderr.startswith(f"error: {word}: nothing cannot be chosen, expected ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_published_protocol_takes_a_step(run, tmp_path):
    create_potsdam(tmp_path / "data/potsdam", areas=("2_10", "7_9", "2_13"))
    tiny = (*TINY, "data.crop=64", "trainer.max_steps=1", "logger=none", "dataset.tile_size=64")
    status, out, err = run("stage=finetune", "experiment=potsdam", "init=null", *tiny)
    assert status == 0, err
    assert "5 classes" in out
    assert out.splitlines()[-1].startswith("val/mIoU 0.")


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


def test_wandb_offline_keeps_scores_and_no_key(run, pair, tmp_path, monkeypatch, offline_wandb):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "deadbeef")
    monkeypatch.setenv("WANDB_SILENT", "true")
    status, _, err = run(
        *finetune(pair, "init=null", "trainer.max_steps=2", "logger=wandb", "run=here")
    )
    assert status == 0, err
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any(p.suffix == ".wandb" for p in files)
    assert not any(b"deadbeef" in p.read_bytes() for p in files)


@pytest.mark.parametrize("recipe", ["samrs", "samtext"])
def test_a_store_made_from_boxes_is_learnt_from(recipe, run, tmp_path):
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
    status, out, err = run("stage=pretrain", *options, *TINY, *steps)
    assert status == 0, err
    assert torch.load(tmp_path / "x/last.ckpt", weights_only=True)["global_step"] == 1
    assert re.match(r"val/mIoU \d", out.splitlines()[-1])
