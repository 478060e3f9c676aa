"""A net of train.py, exported: mmsegmentation's own tools see and score what ALPS does."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import inference_model, init_model
from PIL import Image

from alps.cli import train
from alps.models.init import load_init
from alps.training.load_net import restore
from tests.factories import create_folder_pair
from tests.mmsegmentation.nets import randomise

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec",
    "ignore:.*does not have many workers",
    "ignore:Default ``avg_non_ignore``",
)

NETS = {
    "upernet": ("model.encoder=resnet18", "head=upernet", "head.channels=16", "model.aux=true"),
    "fpn": ("model.encoder=convnext_atto", "head=fpn", "head.channels=32"),
    "segformer": ("model.encoder=test_resnet", "head=mmseg", "head.channels=16"),
    "aspp": (
        *("model.encoder=tf_efficientnet_lite0", "head=mmseg", "head.type=ASPPHead"),
        *("head.channels=16", "head.norm_cfg.type=GN", "+head.norm_cfg.num_groups=4"),
    ),
    "swin": ("model.encoder=swin_tiny_patch4_window7_224", "head=upernet", "head.channels=16"),
    "vit": ("model.encoder=vit_tiny_patch16_224", "head=upernet", "head.channels=16"),
}


@pytest.fixture
def program(tmp_path, monkeypatch, capfd):
    """Call train.py; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "trainer=cpu", "logger=none"])
        train.main()
        return capfd.readouterr().out

    return call


@pytest.fixture
def pair(tmp_path):
    """PNGs: two libraries read a JPEG differently."""
    create_folder_pair(tmp_path / "pair", n=4, size=(64, 96))
    for path in tmp_path.glob("pair/img_dir/*/*.jpg"):
        with Image.open(path) as file:
            file.save(path.with_suffix(".png"))
        path.unlink()
    return tmp_path / "pair"


@pytest.mark.parametrize("name", NETS)
def test_round_trip(program, pair, tmp_path, name):
    program(
        *("stage=finetune", "dataset=folder_pair", "dataset.root=pair", "init=null", "run=run"),
        *("model=timm", *NETS[name], "data.batch_size=4", "data.crop=96", "trainer.max_steps=3"),
    )
    saved = torch.load("run/last.ckpt", weights_only=True)
    saved["state_dict"] = {f"model.{k}": v for k, v in undecided("run/last.ckpt").items()}
    torch.save(saved, "run/last.ckpt")

    printed = program("stage=test", "ckpt=run/last.ckpt")
    miou = float(re.search(r"mIoU (0\.\d+)", printed)[1])
    program("stage=export", "ckpt=run/last.ckpt", "output=out")

    _, model = restore("run/last.ckpt")
    theirs = init_model("out/config.py", "out/weights.pth", device="cpu")
    predicted = set()
    for path in sorted(Path("pair/img_dir/val").iterdir()):
        with Image.open(path) as file:
            image = np.array(file.convert("RGB"))
        with torch.no_grad():
            ours = model.eval()(torch.tensor(image).permute(2, 0, 1)[None]).logits[0]
        result = inference_model(theirs, image[..., ::-1].copy())
        torch.testing.assert_close(result.seg_logits.data, ours, rtol=1e-4, atol=1e-4)
        predicted |= set(result.pred_sem_seg.data.unique().tolist())
    assert len(predicted) > 2

    scores = Runner.from_cfg(exported(tmp_path)).test()  # as its tools/test.py
    assert scores["mIoU"] == pytest.approx(100 * miou, abs=0.06)


def test_a_net_it_trained_on_starts_ours(program, pair, tmp_path):
    """Its Runner keeps far more than weights in a checkpoint; a step there changes all of them."""
    program(
        *("stage=finetune", "dataset=folder_pair", "dataset.root=pair", "init=null", "run=run"),
        *("model=timm", *NETS["upernet"], "data.batch_size=4", "trainer.max_steps=1"),
    )
    program("stage=export", "ckpt=run/last.ckpt", "output=out")
    config = exported(tmp_path)
    config.train_dataloader = config.pop("test_dataloader")
    config.train_dataloader.batch_size = 2
    config.train_dataloader.sampler = {"type": "InfiniteSampler"}
    for key in ("test_evaluator", "test_cfg"):
        config.pop(key)
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 1}
    config.optim_wrapper = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}}
    checkpoint = {"type": "CheckpointHook", "by_epoch": False, "interval": 1}
    config.default_hooks = {"checkpoint": checkpoint}
    runner = Runner.from_cfg(config)
    runner.train()
    _, model = restore("run/last.ckpt")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_init(model, "work/iter_1.pth")
    assert all(loaded == total for loaded, total in report.parts.values())
    assert report.unused == report.mismatched == ()
    after = model.state_dict()
    for name, value in runner.model.decode_head.named_parameters():
        ours = f"classifier{name[8:]}" if name.startswith("conv_seg") else f"head.{name}"
        torch.testing.assert_close(after[ours], value.detach())
        assert not torch.equal(after[ours], before[ours])


def undecided(checkpoint):
    """Weights and statistics as of a long training, and every class somewhere the likeliest."""
    torch.manual_seed(0)
    _, model = restore(checkpoint)
    for part in (model.head, model.classifier):
        randomise(part)
    with Image.open("pair/img_dir/val/0.png") as file, torch.no_grad():
        logits = model.eval()(torch.tensor(np.array(file)).permute(2, 0, 1)[None]).logits
        model.classifier.bias -= logits.mean((0, 2, 3))
    return model.state_dict()


def exported(folder):
    """The configuration, pointed to the images and the weights as by its command line."""
    config = Config.fromfile("out/config.py")
    config.merge_from_dict({"test_dataloader.dataset.data_root": str(folder / "pair")})
    config.test_dataloader.num_workers = 0
    config.work_dir, config.load_from = str(folder / "work"), "out/weights.pth"
    config.experiment_name = folder.name
    return config
