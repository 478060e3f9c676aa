"""Its decode heads over our encoders, and our UPerNet beside its own."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import nn

from alps.cli.build import build_model
from alps.errors import ConfigError
from alps.models.heads.fpn import FPN
from alps.models.heads.mmseg import MmsegHead
from alps.models.heads.upernet import UPerNet
from alps.models.mmseg_export import mmseg_config, mmseg_state
from alps.models.mmseg_names import mmseg_name
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder
from tests.mmsegmentation.nets import randomise
from tests.programs import ROOT

IN_CHANNELS = (8, 16, 24, 32)
BN = {"type": "BN"}
HEADS = {
    "FCNHead": {},
    "PSPHead": {},
    "ASPPHead": {},
    "UPerHead": {},
    "SegformerHead": {},
    "LightHamHead": {"ham_channels": 16},
    "FPNHead": {"feature_strides": [4, 8, 16, 32]},
    "DepthwiseSeparableASPPHead": {"c1_in_channels": 8, "c1_channels": 4},
}

pytestmark = pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")


def pyramid(batch=2, size=64):
    return [
        torch.randn(batch, channels, size // stride, size // stride * 2)
        for channels, stride in zip(IN_CHANNELS, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", HEADS)
def test_a_head_and_our_classifier_are_its_head(name):
    ours = randomise(MmsegHead(IN_CHANNELS, type=name, channels=12, norm_cfg=BN, **HEADS[name]))
    theirs = MODELS.build(ConfigDict(ours.settings, num_classes=5))
    theirs.load_state_dict(ours.decode_head.state_dict(), strict=False)
    theirs.eval()
    classifier = theirs.conv_seg
    features = pyramid()
    torch.manual_seed(0)  # LightHamHead begins with random bases
    expected = theirs(features)
    torch.manual_seed(0)
    found = ours.eval()(features)
    assert found.shape[1] == ours.channels == 12
    torch.testing.assert_close(classifier(found), expected)


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_learns(name):
    head = MmsegHead(IN_CHANNELS, type=name, channels=12, norm_cfg=BN, **HEADS[name])
    assert head.training and all(module.training for module in head.modules())
    head(pyramid()).square().mean().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None] == []


def test_levels():
    assert MmsegHead(IN_CHANNELS, type="SegformerHead").settings["in_index"] == [0, 1, 2, 3]
    assert MmsegHead(IN_CHANNELS, type="PSPHead").settings["in_channels"] == 32
    assert MmsegHead(IN_CHANNELS, type="PSPHead", in_index=1).settings["in_channels"] == 16
    joined = MmsegHead(IN_CHANNELS, type="FCNHead", input_transform="resize_concat")
    assert joined.decode_head.in_channels == sum(IN_CHANNELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "UNet"}, r"UNet is not a decode head of mmsegmentation; expected one of ANNHead"),
        ({"type": "os.system"}, r"os\.system is not a decode head"),
        ({"type": "DAHead"}, r"levels with \[8, 16, 24, 32\].*'pam_channels'.*\+head\.KEY=VALUE"),
        ({"type": "DAHead", "pam_channels": 4}, "returns a tuple, not one feature map"),
        ({"type": "FCNHead", "in_index": 4}, "tuple index out of range"),
        ({"type": "PSPHead", "in_index": [0, 1]}, r"fails with in_index=\[0, 1\]"),
        ({"type": "SegmenterMaskTransformerHead"}, "num_layers"),
        ({"type": "SegformerHead", "interpolate_mode": "x"}, "got x"),
    ],
)
def test_a_head_without_a_feature_map_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        MmsegHead(IN_CHANNELS, channels=12, **settings)
    assert "\n" not in str(error.value)


def test_one_image_in_training():
    head = MmsegHead(IN_CHANNELS, type="ASPPHead", channels=12, norm_cfg=BN)
    with pytest.raises(ConfigError, match=r"ASPPHead got a batch of 1 .*data\.batch_size=2"):
        head(pyramid(batch=1))
    head.eval()(pyramid(batch=1))


@pytest.mark.parametrize("name", ["FCNHead", "PSPHead", "ASPPHead", "UPerHead", "SegformerHead"])
def test_the_yaml_builds_a_net(name):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["stage=pretrain", "head=mmseg", f"head.type={name}"])
    model = build_model(cfg, 3).eval()
    assert model.head.settings["norm_cfg"] == BN
    assert model(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("head", [UPerNet, FPN])
def test_our_heads_are_its_heads_with_copied_weights(head):
    """UPerHead; FPN and FPNHead: in evaluation, their batch norms with other statistics."""
    encoder = Encoder("test_resnet")
    model = SegmentationModel(encoder, head(encoder.channels), num_classes=5)
    model = randomise(model).double().eval()
    config = mmseg_config(model, ignore_index=255, crop=64, stride=32)
    weights = mmseg_state(model)
    theirs = {
        part: MODELS.build(ConfigDict(config[part])).double().eval()
        for part in ("neck", "decode_head")
        if part in config
    }
    for part, module in theirs.items():
        own = {k.removeprefix(f"{part}."): v for k, v in weights.items() if k.startswith(part)}
        module.load_state_dict(own)
    features = encoder(torch.randn(2, 3, 64, 96).double())
    expected = features
    for module in theirs.values():
        expected = module(expected)
    found = model.classifier(model.head(features))
    torch.testing.assert_close(found, expected)


def test_its_upernet_has_our_names():
    ours = UPerNet(IN_CHANNELS, channels=16)
    theirs = MmsegHead(IN_CHANNELS, type="UPerHead", channels=16, norm_cfg=BN).decode_head
    names = {mmseg_name(f"head.{name}").removeprefix("decode_head.") for name in ours.state_dict()}
    assert names == theirs.state_dict().keys()
    assert isinstance(theirs.conv_seg, nn.Identity)
