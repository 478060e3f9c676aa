"""What is written; tests/mmsegmentation lets mmsegmentation read it."""

import pytest
import torch

from alps.errors import ConfigError
from alps.models.heads.fpn import FPN
from alps.models.heads.unet import UNet
from alps.models.heads.upernet import UPerNet
from alps.models.mmseg_export import write_mmseg
from alps.rasters.view import View
from alps.structures.records import Category
from tests.models.nets import build

CLASSES = [Category(i, name, (i, 2 * i, 255)) for i, name in enumerate(("it's", "a", '"b"\n'))]


def write(model, folder, **more):
    options = {"categories": CLASSES, "ignore_index": 255, "crop": 64, "stride": 48, **more}
    write_mmseg(model, folder, **options, title="last.ckpt, step 3")


def read(folder):
    text = (folder / "config.py").read_text("utf-8")
    values = {}
    exec(text, values)
    return text, values


def test_configuration_and_weights(tmp_path):
    model = build("resnet18", num_classes=3, head=UPerNet, aux=True)
    write(model, tmp_path / "a/b")
    text, values = read(tmp_path / "a/b")
    assert text.startswith("# last.ckpt, step 3, written by ALPS ")
    config = values["model"]
    assert config["backbone"]["model_name"] == "resnet18"
    assert config["backbone"]["out_indices"] == (1, 2, 3, 4)
    assert config["decode_head"]["in_channels"] == [64, 128, 256, 512]
    assert config["decode_head"]["num_classes"] == config["auxiliary_head"]["num_classes"] == 3
    assert config["data_preprocessor"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert config["test_cfg"] == {"mode": "slide", "crop_size": (64, 64), "stride": (48, 48)}
    dataset = values["test_dataloader"]["dataset"]
    assert dataset["metainfo"]["classes"] == ("it's", "a", '"b"\n')
    assert dataset["reduce_zero_label"] is False
    write(model, tmp_path / "c", reduce_zero_label=True)
    assert read(tmp_path / "c")[1]["test_dataloader"]["dataset"]["reduce_zero_label"] is True

    content = torch.load(tmp_path / "a/b/weights.pth", weights_only=True)
    assert content["meta"]["dataset_meta"]["palette"] == [[0, 0, 255], [1, 2, 255], [2, 4, 255]]
    state, ours = content["state_dict"], model.state_dict()
    assert len(state) == len(ours) - 2  # the preprocessor has mean and std
    conv1 = "backbone.timm_model.model.conv1.weight"
    torch.testing.assert_close(state[conv1], ours["encoder.trunk.conv1.weight"])
    assert all(value.is_contiguous() for value in state.values())


def test_a_title_is_no_code(tmp_path):
    options = {"categories": CLASSES, "ignore_index": 255, "crop": 64, "stride": 48}
    model = build("resnet18", num_classes=3, head=UPerNet)
    write_mmseg(model, tmp_path, **options, title="from\nraise SystemExit\r1")
    assert read(tmp_path)[0].startswith("# from raise SystemExit 1, written")


def test_a_pyramid_has_a_neck(tmp_path):
    write(build("resnet18", num_classes=3, head=FPN), tmp_path)
    config = read(tmp_path)[1]["model"]
    assert (config["neck"]["type"], config["decode_head"]["type"]) == ("FPN", "FPNHead")
    assert config["decode_head"]["in_channels"] == [config["neck"]["out_channels"]] * 4


def test_a_vit_needs_alps_there(tmp_path):
    write(build("vit_tiny_patch16_224", num_classes=3, head=UPerNet), tmp_path)
    assert read(tmp_path)[1]["model"]["backbone"] == {
        "type": "alps.pretrained.encoder.Encoder",
        "name": "vit_tiny_patch16_224",
        "in_channels": 3,
    }
    state = torch.load(tmp_path / "weights.pth", weights_only=True)["state_dict"]
    assert "backbone.pyramid.scales.1.weight" in state


def test_what_has_no_equal_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"no head like UNet; .* head=upernet, fpn or mmseg can"):
        write(build("resnet18", num_classes=3, head=UNet), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path):
    model = build("resnet18", num_classes=3, head=UPerNet)
    write(model, tmp_path)
    with pytest.raises(ConfigError, match=r"config\.py exists already; .*output=DIR"):
        write(model, tmp_path)


def test_the_view_of_rasters_is_a_comment(tmp_path):
    model = build("resnet18", num_classes=3, head=UPerNet)
    view = View(rgb=("red\nraise SystemExit", 2, 1), limits=((0.0, 3000.0),), gsd=0.5)
    write(model, tmp_path, view=view)
    lines = read(tmp_path)[0].splitlines()
    assert lines[1] == (
        "# The model was trained on the bands red raise SystemExit, 2, 1, stretched from (0, 3000) "
        "to (0, 255), at 0.5 m per pixel."
    )
    assert lines[2].startswith("# mmsegmentation does not convert rasters: ")
