"""Its checkpoints as the first weights of our nets: after that, both say the same."""

import warnings

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmseg.registry import MODELS
from torch import nn

from alps.errors import CheckpointError
from alps.models.heads.fcn import FCN
from alps.models.heads.mmseg import MmsegHead
from alps.models.heads.upernet import UPerNet
from alps.models.init import load_init
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder
from tests.mmsegmentation.nets import randomise

SWIN = "swin_tiny_patch4_window7_224"
TIMM = {"type": "TIMMBackbone", "pretrained": False}
BACKBONES = {
    "ResNet": ("resnet18", {"type": "ResNet", "depth": 18}),
    "ResNetV1c": ("resnet50c", {"type": "ResNetV1c", "depth": 50}),
    "ResNetV1d": ("resnet50d", {"type": "ResNetV1d", "depth": 50}),
    "dilated": (
        "resnet18",
        {"type": "ResNet", "depth": 18, "strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)},
    ),
    "timm": ("resnet18", {**TIMM, "model_name": "resnet18", "out_indices": (1, 2, 3, 4)}),
    "timm, joined names": ("convnext_atto", {**TIMM, "model_name": "convnext_atto"}),
    "timm, getter": (
        "convnext_atto",
        {**TIMM, "model_name": "convnext_atto"} | {"feature_cls": "getter"},
    ),
    "Swin": (
        SWIN,
        {
            "type": "SwinTransformer",
            "embed_dims": 96,
            "depths": [2, 2, 6, 2],
            "num_heads": [3, 6, 12, 24],
        },
    ),
}
NORM = {"type": "BN"}

pytestmark = pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")


def theirs(backbone, channels, head="UPerHead"):
    several = head == "UPerHead"
    common = {"num_classes": 5, "norm_cfg": NORM}
    config = {
        "type": "EncoderDecoder",
        "backbone": backbone,
        "decode_head": {
            "type": head,
            "in_channels": [*channels] if several else channels[3],
            "in_index": [0, 1, 2, 3] if several else 3,
            "channels": 16,
            **common,
        },
        "auxiliary_head": {
            "type": "FCNHead",
            "in_channels": channels[2],
            "in_index": 2,
            "channels": 8,
            "num_convs": 1,
            "concat_input": False,
            **common,
        },
        "test_cfg": {"mode": "whole"},
    }
    return randomise(MODELS.build(ConfigDict(config))).eval()


def ours(name, head=None):
    encoder = Encoder(name)
    head = head or UPerNet(encoder.channels, channels=16)
    aux = FCN(encoder.channels, channels=8)
    return SegmentationModel(encoder, head, num_classes=5, aux_head=aux).eval()


def save(tmp_path, model, **more):
    path = tmp_path / "iter_80000.pth"
    torch.save({"meta": {"seed": 0}, "state_dict": model.state_dict(), **more}, path)
    return str(path)


@pytest.mark.parametrize("name", BACKBONES)
def test_both_say_the_same(tmp_path, name):
    encoder, backbone = BACKBONES[name]
    model = ours(encoder)
    net = theirs(backbone, model.encoder.channels)
    size = 64
    if name == "Swin":  # timm's has no norms after its stages, and does not shift a lone window
        size = 224
        for i in range(4):
            setattr(net.backbone, f"norm{i}", nn.Identity())
        net.backbone.stages[3].blocks[1].attn.shift_size = 0
    report = load_init(model, save(tmp_path, net))
    assert all(loaded == total for loaded, total in report.parts.values())
    assert report.missing == ("mean", "std")  # which its preprocessor holds
    assert report.unused == report.mismatched == ()
    if name == "dilated":
        return  # the same weights, another net
    image = torch.rand(2, 3, size, size) * 255
    normalised = (image - model.mean) / model.std
    meta = [{"ori_shape": (size, size), "img_shape": (size, size)}] * 2
    with torch.no_grad():
        found, expected = model(image).logits, net.inference(normalised, meta)
        aux = net.auxiliary_head(net.extract_feat(normalised))
        our_aux = model.aux_classifier(model.aux_head(model.encoder(normalised)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(our_aux, aux, rtol=1e-4, atol=1e-4)


def test_the_norms_of_swin_are_reported(tmp_path):
    model = ours(SWIN)
    report = load_init(model, save(tmp_path, theirs(BACKBONES["Swin"][1], model.encoder.channels)))
    assert {name.rpartition(".")[0] for name in report.unused} == {
        f"encoder.trunk.norm{i}" for i in range(4)
    }
    assert "8 tensors of the file are not in the model: encoder.trunk.norm0.weight" in str(report)


def test_its_own_head(tmp_path):
    encoder = Encoder("resnet18")
    head = MmsegHead(encoder.channels, type="PSPHead", channels=16, norm_cfg=NORM)
    model = ours("resnet18", head)
    net = theirs(BACKBONES["ResNet"][1], encoder.channels, "PSPHead")
    report = load_init(model, save(tmp_path, net))
    assert report.parts["head"][0] == report.parts["head"][1] > 0
    features = [torch.randn(1, c, 8, 8) for c in encoder.channels]
    expected = net.decode_head(features)
    torch.testing.assert_close(model.classifier(model.head(features)), expected)


def test_another_head_is_refused_and_skipped(tmp_path):
    model = ours("resnet18")
    net = theirs(BACKBONES["ResNet"][1], model.encoder.channels, "PSPHead")
    path = save(tmp_path, net)
    with pytest.raises(CheckpointError, match=r"head has .* in common; .*init_skip=\[head\]"):
        load_init(model, path)
    report = load_init(model, path, skip=["head", "classifier"])
    assert report.parts["encoder"][0] == report.parts["encoder"][1]


def test_another_backbone_is_refused(tmp_path):
    model = ours("resnet50")
    net = theirs(BACKBONES["ResNetV1c"][1], model.encoder.channels)
    with pytest.raises(CheckpointError, match=r"no encoder\.trunk\.conv1\.weight, but .*conv1\.0"):
        load_init(model, save(tmp_path, net))


def test_what_its_runner_keeps_beside_the_weights(tmp_path):
    """Curves, numbers of numpy and configurations: what an ordinary load refuses."""
    hub = MessageHub.get_instance("a run")
    hub.update_scalar("train/loss", np.float64(0.3))
    hub.update_info("iter", np.int64(3))
    model = ours("resnet18")
    net = theirs(BACKBONES["ResNet"][1], model.encoder.channels)
    meta = {"dataset_meta": {"palette": np.zeros((5, 3))}, "cfg": ConfigDict(a={"b": 1})}
    path = save(tmp_path, net, message_hub=hub.state_dict(), meta=meta)
    with pytest.raises(Exception, match="Unsupported global"):
        torch.load(path, weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = load_init(model, path)
    assert report.missing == ("mean", "std")
    torch.testing.assert_close(model.encoder.trunk.conv1.weight, net.backbone.conv1.weight)
