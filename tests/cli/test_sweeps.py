"""W&B sweep files: what an agent would run composes, and two trials really run."""

import itertools
import sys
from operator import ne
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from tests.factories import create_potsdam
from tests.programs import LIGHTNING_WARNINGS

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def values(parameter):
    """All values of a parameter, or the ends of its range."""
    if "values" in parameter:
        return parameter["values"]
    return [parameter["value"]] if "value" in parameter else [parameter["min"], parameter["max"]]


def trials(path):
    """The command line of every combination, written by W&B's own code."""
    sweep = yaml.safe_load(path.read_text())
    names = [*sweep["parameters"]]
    for combination in itertools.product(*(values(sweep["parameters"][n]) for n in names)):
        args = create_sweep_command_args(
            {"args": {n: {"value": v} for n, v in zip(names, combination, strict=True)}}
        )
        command = [c for c in create_sweep_command([*sweep["command"]]) if c != "${env}"]
        argv = []
        for word in command:
            if word == "${args_no_hyphens}":
                argv += args["args_no_hyphens"]
            else:
                argv.append({"${interpreter}": sys.executable}.get(word, word))
        yield argv


def test_there_are_sweeps():
    assert [p.stem for p in SWEEPS] == ["finetune", "pretrain"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_trial_composes(path):
    """Every value once, beside the first values of the other parameters."""
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"]["name"] == "val/mIoU"
    first, *others = trials(path)
    chosen = [first, *(argv for argv in others if sum(map(ne, argv, first)) == 1)]
    assert len(chosen) == 1 + sum(len(values(p)) - 1 for p in sweep["parameters"].values())
    found = set()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for argv in chosen:
            assert argv[:2] == [sys.executable, "train.py"]
            cfg = compose("train", argv[2:])
            assert cfg.logger["_target_"].endswith("WandbLogger")
            found.add(str(cfg))
    assert len(found) == len(chosen)  # no value is without effect


@LIGHTNING_WARNINGS
def test_two_trials_really_run(tmp_path, train, offline_wandb):
    """With a net, images and a length that take seconds."""
    create_potsdam(tmp_path / "data/potsdam", areas=("2_10", "7_9", "2_13"))
    small = [
        *("model=timm", "model.encoder=test_resnet", "head=fpn", "head.channels=32"),
        *("trainer=cpu", "trainer.max_steps=2", "data.batch_size=2", "dataset.tile_size=64"),
    ]
    path = ROOT / "sweeps/finetune.yaml"
    for argv in [t for t in trials(path) if "init=null" in t and "data.fraction=1.0" in t][:2]:
        assert argv[:2] == [sys.executable, "train.py"]
        status, out, err = train(*argv[2:], *small)
        assert status == 0, err[-3000:]
        assert out.splitlines()[-1].startswith("val/mIoU 0.")
    assert len([*tmp_path.glob("runs/finetune/*/wandb/offline-run-*")]) == 2
