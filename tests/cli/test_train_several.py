"""train.py on two label stores and ground truth at once, on two processes, and what comes of it."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from alps.assign.cluster import Cluster
from alps.features.sam import SamFeatures
from alps.images.pixels.folder_pair import FolderPair
from alps.labelling.engine.local import LocalEngine
from alps.labelling.pipeline import label
from alps.masks.auto import AutoMasks
from tests.factories import create_folder_pair
from tests.fakes import ColorSegmenter
from tests.programs import LIGHTNING_WARNINGS, ROOT, TINY

pytestmark = LIGHTNING_WARNINGS


def create_store(root, images, k):
    """Pseudo-labels of the images, K classes."""
    segmenter = ColorSegmenter()
    label(
        image_set=FolderPair(root=str(images)),
        masks=AutoMasks(
            segmenter=segmenter, points_per_side=3, stability_score_thresh=0.5, ground=0
        ),
        features=SamFeatures(segmenter=segmenter),
        assign=Cluster(k=k),
        engine=LocalEngine(threads=1),
        root=root,
        name=root.name,
        config="",
    )


def three_sets(folder):
    create_folder_pair(folder / "pair", n=3)
    create_store(folder / "two_pl", folder / "pair", 2)
    create_store(folder / "three_pl", folder / "pair", 3)
    return (
        *("+dataset@datasets.two=store", f"datasets.two.root={folder}/two_pl"),
        *("+dataset@datasets.three=store", f"datasets.three.root={folder}/three_pl"),
        *("+dataset@datasets.truth=folder_pair", f"datasets.truth.root={folder}/pair"),
    )


def on_two_processes(*arguments, cwd):
    options = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=none")
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *arguments, *options],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def learnt(path):
    """The weights, and what Adam remembers of each."""
    saved = torch.load(path, weights_only=True)
    [adam] = saved["optimizer_states"]
    remembered = {f"{i} {key}": v for i, s in adam["state"].items() for key, v in s.items()}
    return saved["state_dict"] | remembered


@pytest.mark.two_processes
def test_two_stores_and_ground_truth_are_learnt_on_two_processes_and_used_apart(train, tmp_path):
    words = ("stage=pretrain", *three_sets(tmp_path), *TINY, "model.aux=true")
    # The rate at a step does not depend on how many are to come.
    steps = ("trainer.val_check_interval=1", "optim.schedule=constant", "optim.warmup=0")
    out = on_two_processes(*words, *steps, "run=x", "trainer.max_steps=2", cwd=tmp_path)
    assert re.fullmatch(r"val/mIoU 0\.\d{4}  val/mF1 \S+  val/OA \S+", out.splitlines()[-1])
    assert "two: agreement with the 2 pseudo-classes of two_pl; 3 whole images" in out
    half = learnt(tmp_path / "x/last.ckpt")
    on_two_processes(*words, *steps, "run=whole", "trainer.max_steps=4", cwd=tmp_path)
    more = ("run=x", "trainer.max_steps=4", "resume=x/last.ckpt")
    out = on_two_processes(*words, *steps, *more, cwd=tmp_path)
    assert re.findall(r"step (\d)/4", out) == ["3", "4"]
    means = [float(v) for v in re.findall(r"^val/\w+/mIoU (\S+)", out, re.MULTILINE)]
    last = float(out.splitlines()[-1].split()[1])
    assert last == pytest.approx(np.mean(means), abs=2e-4)
    saved = torch.load(tmp_path / "x/last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    resumed, whole = (learnt(tmp_path / run / "last.ckpt") for run in ("x", "whole"))
    assert resumed.keys() == whole.keys() == half.keys()
    assert [name for name, value in whole.items() if not torch.equal(value, resumed[name])] == []
    assert len([name for name, value in half.items() if torch.equal(value, whole[name])]) < 3
    assert [*saved["alps"]["datasets"]] == ["two", "three", "truth"]
    config = yaml.safe_load((tmp_path / "x/config.yaml").read_text())
    assert ("dataset" in config, [*config["datasets"]]) == (False, ["two", "three", "truth"])

    cpu = ("trainer=cpu", "logger=none")
    status, out, err = train("stage=test", "ckpt=x/last.ckpt", "classifier=truth", *cpu)
    assert status == 0, err
    assert "folder_pair pair: 4 classes" in out
    assert float(out.splitlines()[-1].split()[1]) == pytest.approx(means[2], abs=2e-4)
    status, _, err = train("stage=test", "ckpt=x/last.ckpt", *cpu)
    assert (status, err.splitlines()[-1]) == (
        1,
        "error: x/last.ckpt was trained on several datasets; choose one of them: "
        "classifier=two|three|truth",
    )
    predict = ("stage=predict", "ckpt=x/last.ckpt", f"input={tmp_path}/pair/img_dir", *cpu)
    status, _, err = train(*predict, "classifier=four", "output=maps")
    assert "several datasets, not on four; choose" in err.splitlines()[-1]
    status, _, err = train(*predict, "classifier=two", "output=maps")
    assert status == 0, err
    with Image.open(tmp_path / "maps/val/0.png") as image:
        assert set(np.unique(image)) <= {0, 1}

    # Its encoder and head initialise a model for one dataset.
    finetune = ("stage=finetune", "dataset=folder_pair", f"dataset.root={tmp_path}/pair", *TINY)
    more = ("init=x/last.ckpt", "trainer.max_steps=1", "model.aux=true", "logger=none")
    status, out, err = train(*finetune, *more)
    assert status == 0, err
    assert re.match(
        r"init from x/last.ckpt: encoder (\d+) of \1 tensors, head (\d+) of \2 tensors, "
        r"aux_head (\d+) of \3 tensors\n",
        out,
    )


def test_a_model_of_one_dataset_takes_no_classifier(train, tmp_path):
    create_folder_pair(tmp_path / "pair", n=2)
    finetune = ("stage=finetune", "dataset=folder_pair", f"dataset.root={tmp_path}/pair", *TINY)
    status, _, err = train(*finetune, "init=null", "trainer.max_steps=1", "run=x", "logger=none")
    assert status == 0, err
    status, _, err = train("stage=test", "ckpt=x/last.ckpt", "classifier=pair")
    assert status == 1
    assert err.endswith(
        "error: x/last.ckpt was trained on a single dataset; omit classifier=pair\n"
    )
