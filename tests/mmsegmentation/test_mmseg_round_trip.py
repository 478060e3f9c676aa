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

import train
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


@pytest.mark.parametrize("name", NETS)
def test_round_trip(program, tmp_path, name):
    create_folder_pair(tmp_path / "pair", n=4, size=(64, 96))
    for path in tmp_path.glob("pair/img_dir/*/*.jpg"):  # which two libraries read differently
        with Image.open(path) as file:
            file.save(path.with_suffix(".png"))
        path.unlink()
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

    _, _, model = train.restore("run/last.ckpt")
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

    scores = its_scores(tmp_path)
    assert scores["mIoU"] == pytest.approx(100 * miou, abs=0.06)


def undecided(checkpoint):
    """Weights and statistics as of a long training, and every class somewhere the likeliest."""
    torch.manual_seed(0)
    _, _, model = train.restore(checkpoint)
    for part in (model.head, model.classifier):
        randomise(part)
    with Image.open("pair/img_dir/val/0.png") as file, torch.no_grad():
        logits = model.eval()(torch.tensor(np.array(file)).permute(2, 0, 1)[None]).logits
        model.classifier.bias -= logits.mean((0, 2, 3))
    return model.state_dict()


def its_scores(folder):
    """As tools/test.py scores: its Runner with the exported configuration."""
    config = Config.fromfile("out/config.py")
    config.merge_from_dict({"test_dataloader.dataset.data_root": str(folder / "pair")})
    config.test_dataloader.num_workers = 0
    config.work_dir, config.load_from = str(folder / "work"), "out/weights.pth"
    config.experiment_name = folder.name
    return Runner.from_cfg(config).test()
