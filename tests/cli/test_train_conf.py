"""conf/ as train.py composes it: groups and help, every file, published protocols."""

import re
import subprocess
import sys

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Trainer

from alps.cli.build import build_model, build_trainer
from alps.errors import MissingPackage
from alps.training.data import SegmentationData
from alps.training.sync_norm import SyncBatchNorm
from tests.programs import ROOT, TINY, composed
from tests.training.tiny_runs import ColoredBlocks

LABEL_GROUPS = ("dataset", "recipe", "masks", "features", "assign", "sam", "engine")
TRAIN_GROUPS = (
    *("stage", "dataset", "model", "head", "data", "loss", "optim", "window"),
    *("trainer", "callbacks", "logger", "experiment"),
)


def test_help_shows_its_own_groups_and_commands():
    for program, groups in (("label", LABEL_GROUPS), ("train", TRAIN_GROUPS)):
        done = subprocess.run(
            [sys.executable, ROOT / f"{program}.py", "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        help_ = done.stdout.split("Keys and their defaults")[0]
        lines = re.sub(r"\n {12,}", " ", help_.split("Groups")[1]).splitlines()[2:]
        listed = {line.split()[0]: set(line.split()[1:]) for line in lines if line.strip()}
        assert listed.keys() == set(groups)
        for group, choices in listed.items():
            on_disk = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
            if group != "dataset":
                assert choices == on_disk, group
            assert choices <= on_disk
        assert f"python {program}.py " in help_


@pytest.mark.parametrize(
    ("group", "choice"),
    [
        (group, path.stem)
        for group in TRAIN_GROUPS
        if group not in ("stage", "dataset")
        for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
        if (group, path.stem) != ("head", "mmseg")  # below, and in tests/mmsegmentation
    ],
)
def test_every_yaml_composes_and_instantiates(group, choice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    own = ["model.encoder=test_vit"] if choice == "timm" else []
    if group not in ("model", "head", "experiment"):
        own = TINY[:5]  # the default net takes a second
    cfg = composed("stage=pretrain", f"{group}={choice}", *own)
    cfg.run = str(tmp_path)
    assert SegmentationData(ColoredBlocks(), **cfg.data).train
    with torch.device("meta"):  # random weights of a large net take a second
        model = build_model(cfg, 3)
    assert model.num_classes == 3
    assert instantiate(cfg.window, crop=64).windows((64, 64))
    assert instantiate(cfg.loss, ignore_index=255).ignore_index == 255
    optimizer, _ = instantiate(cfg.optim).build(model, 10)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len([*model.parameters()])
    if choice in ("gpu", "slurm") and not torch.cuda.is_available():
        return  # Lightning refuses to build these without a GPU; they composed
    cfg.trainer.devices = 1
    assert build_trainer(cfg).max_steps == cfg.trainer.max_steps


def test_its_heads_need_mmsegmentation(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmseg.models", None)
    cfg = composed("stage=pretrain", "head=mmseg", "+head.interpolate_mode=nearest")
    assert cfg.head.type == "SegformerHead"
    with pytest.raises(MissingPackage, match=r"needs mmseg.*pip install -e '.\[mmseg\]'"):
        build_model(cfg, 3)


@pytest.mark.parametrize("stage", sorted(p.stem for p in (ROOT / "conf/stage").glob("*.yaml")))
def test_every_stage_composes(stage):
    assert composed(f"stage={stage}").stage == stage


def test_no_yaml_is_left_out():
    """These groups' files are composed and instantiated above and in test_label.py."""
    groups = {*LABEL_GROUPS, *TRAIN_GROUPS, "paths"}  # paths: all others are composed with it
    left = {p.relative_to(ROOT / "conf").parts[0] for p in (ROOT / "conf").rglob("*.yaml")} - groups
    assert left == {"label.yaml", "train.yaml"}


EXPERIMENTS = {p.stem for p in (ROOT / "conf/experiment").glob("*.yaml")} - {"demo"}
NETS = {  # AdamW's learning rate, layer decay
    "upernet_convnext_tiny": ("convnext_tiny", 1e-4, 1.0),
    "upernet_resnet50": ("resnet50", 1e-3, 1.0),
    "upernet_swin_tiny": ("swin_tiny_patch4_window7_224", 6e-5, 1.0),
    "upernet_vit_base": ("vit_base_patch16_224", 6e-5, 0.9),
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("protocol", sorted(EXPERIMENTS - NETS.keys()))
def test_each_protocol_goes_with_each_net(protocol, net):
    pretrains = protocol not in ("isaid", "potsdam")
    stage = "pretrain" if pretrains else "finetune"
    cfg = composed(f"stage={stage}", f"experiment=[{protocol},{net}]")
    encoder, lr, layer_decay = NETS[net]
    assert (cfg.model.encoder, cfg.optim.lr, cfg.optim.layer_decay) == (encoder, lr, layer_decay)
    assert cfg.head["_target_"].endswith("UPerNet")
    schedule = (cfg.optim.weight_decay, cfg.optim.schedule, cfg.optim.min_lr, cfg.optim.warmup)
    assert schedule == (0.05, "cosine", 5e-6, 0.0)
    assert cfg.trainer.max_steps == 80_000
    crop, batch_size = {"potsdam": (512, 8), "isaid": (896, 8)}.get(protocol, (224, 96))
    assert (cfg.data.crop, cfg.data.batch_size, cfg.data.scale_p) == (crop, batch_size, 0.5)
    if protocol in ("isaid", "potsdam"):
        assert cfg.dataset.name == protocol
    if protocol == "samrs_sep":
        assert [node.name for node in cfg.datasets.values()] == ["sota", "sior", "fast"]


class Recorder(Trainer):
    """A trainer that only keeps its arguments."""

    def __init__(self, **options):
        self.options = options


@pytest.mark.parametrize(
    ("trainer", "accelerator", "synchronised"),
    [("ddp", "gpu", True), ("slurm", "gpu", True), ("ddp", "cpu", False), ("gpu", "gpu", False)],
)
def test_batch_norms_of_several_gpus_are_synchronised(
    trainer, accelerator, synchronised, monkeypatch, tmp_path
):
    monkeypatch.setattr("alps.training.trainer.choose_accelerator", lambda asked: accelerator)
    monkeypatch.setattr("lightning.pytorch.Trainer", Recorder)
    cfg = composed("stage=pretrain", f"trainer={trainer}", "callbacks={}", "logger=none")
    cfg.run = str(tmp_path)
    options = build_trainer(cfg).options
    assert options["sync_batchnorm"] is False  # Lightning's own, which changes timm's nets
    kinds = [type(plugin) for plugin in options["plugins"] or []]
    assert kinds == [SyncBatchNorm] * synchronised
