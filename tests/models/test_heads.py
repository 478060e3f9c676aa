import sys

import pytest
import torch
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import nn

from alps.errors import ConfigError, MissingPackage
from alps.models.heads.fcn import FCN
from alps.models.heads.fpn import FPN
from alps.models.heads.mmseg import MmsegHead
from alps.models.heads.unet import UNet
from alps.models.heads.upernet import UPerNet

IN_CHANNELS = (8, 16, 24, 32)
HEADS = {
    "upernet": lambda: UPerNet(IN_CHANNELS, channels=16),
    "fpn": lambda: FPN(IN_CHANNELS, channels=32, pyramid_channels=16),
    "unet": lambda: UNet(IN_CHANNELS, channels=8),
    "fcn": lambda: FCN(IN_CHANNELS, channels=16),
}


def pyramid(batch=2, size=64):
    return [
        torch.randn(batch, channels, size // stride, size // stride * 2)
        for channels, stride in zip(IN_CHANNELS, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", HEADS)
def test_one_map_at_the_finest_level_and_every_parameter_learns(name):
    head = HEADS[name]()
    features = [f.requires_grad_() for f in pyramid()]
    out = head(features)
    assert out.shape == (2, head.channels, *features[2 if name == "fcn" else 0].shape[-2:])
    out.square().mean().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None] == []
    seen = [f.grad is not None and bool(f.grad.any()) for f in features]
    assert seen == ([False, False, True, False] if name == "fcn" else [True] * 4)


@pytest.mark.parametrize("name", HEADS)
def test_dropout_is_for_training_only(name):
    head = HEADS[name]().eval()
    features = pyramid()
    torch.testing.assert_close(head(features), head(features))


@pytest.mark.parametrize("name", HEADS)
def test_an_image_does_not_see_the_rest_of_its_batch(name):
    head = HEADS[name]().eval()
    features = pyramid()
    alone = head([f[:1] for f in features])
    torch.testing.assert_close(head(features)[:1], alone, rtol=1e-4, atol=1e-5)


# --- UPerNet ------------------------------------------------------------------------------------


def test_upernet_has_the_names_of_mmsegmentation():
    """Its UPerHead for four levels, but for conv_seg, our classifier."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    blocks = ["bottleneck", "fpn_bottleneck"]
    blocks += [f"psp_modules.{i}.1" for i in range(4)]
    blocks += [f"{kind}_convs.{i}" for kind in ("lateral", "fpn") for i in range(3)]
    expected = {f"{b}.conv.weight" for b in blocks} | {f"{b}.bn.{n}" for b in blocks for n in norm}
    head = UPerNet(IN_CHANNELS, channels=16)
    assert set(head.state_dict()) == expected
    shapes = {name: tuple(v.shape) for name, v in head.state_dict().items()}
    assert shapes["bottleneck.conv.weight"] == (16, 32 + 4 * 16, 3, 3)
    assert shapes["fpn_bottleneck.conv.weight"] == (16, 4 * 16, 3, 3)
    assert shapes["psp_modules.3.1.conv.weight"] == (16, 32, 1, 1)


def test_upernet_equals_that_of_segmentation_models_pytorch():
    """Which norms the encoder's maps first and has the coarsest of its levels first."""
    ours = UPerNet(IN_CHANNELS, channels=16).eval()
    theirs = UPerNetDecoder([3, 4, *IN_CHANNELS], encoder_depth=5, decoder_channels=16).eval()
    theirs.feature_norms = nn.ModuleList(nn.Identity() for _ in IN_CHANNELS)
    pairs = [(ours.bottleneck, theirs.psp.out_conv), (ours.fpn_bottleneck, theirs.fusion_block)]
    pairs += [(ours.psp_modules[i][1], theirs.psp.blocks[i][1]) for i in range(4)]
    for i in range(3):
        lateral = theirs.fpn_lateral_blocks[2 - i].conv_norm_relu
        pairs += [(ours.lateral_convs[i], lateral)]
        pairs += [(ours.fpn_convs[i], theirs.fpn_conv_blocks[2 - i])]
    for our, their in pairs:
        nn.init.uniform_(our.bn.running_mean)
        their[0].load_state_dict(our.conv.state_dict())
        their[1].load_state_dict(our.bn.state_dict())
    features = pyramid()
    expected = theirs([torch.empty(0), torch.empty(0), *features])
    torch.testing.assert_close(ours(features), expected, rtol=1e-5, atol=1e-5)


def test_one_image_in_training():
    head = HEADS["upernet"]()
    with pytest.raises(ConfigError, match=r"batch of 1 image in training, .*data\.batch_size=2"):
        head(pyramid(batch=1))
    head.eval()(pyramid(batch=1))  # scored one by one
    with pytest.raises(ValueError, match="Expected more than 1 value"):  # torch asks all devices
        nn.SyncBatchNorm.convert_sync_batchnorm(head).train()(pyramid(batch=1))


def test_the_other_heads_learn_from_one_image():
    for name in ("fpn", "unet", "fcn"):
        HEADS[name]()(pyramid(batch=1))


# --- FPN, U-Net ---------------------------------------------------------------------------------


def test_fpn_keeps_no_batch_statistics():
    assert not any(isinstance(m, nn.BatchNorm2d) for m in HEADS["fpn"]().modules())


def test_fpn_brings_each_level_to_the_finest_by_steps_of_two():
    assert [len(branch) for branch in HEADS["fpn"]().branches] == [1, 1, 2, 3]


def test_unet_halves_its_channels_at_each_level():
    head = UNet(IN_CHANNELS, channels=8)
    assert [block[-1].conv.out_channels for block in head.blocks] == [32, 16, 8]


# --- those of mmsegmentation, without it; with it: tests/mmsegmentation ---------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm_cfg": {"type": "os.system"}}, r"would build os\.system, expected one of BN, GN"),
        ({"cfg": [{"a": {"type": "TIMMBackbone"}}]}, "would build TIMMBackbone"),
        ({"loss_decode": {"type": "DiceLoss"}}, "loss_decode cannot be set; .* loss= and"),
        ({"num_classes": 3, "align_corners": True}, "align_corners, num_classes cannot be set"),
    ],
)
def test_options_of_a_checkpoint_build_layers_only(options, message):
    """mmengine imports and calls whatever a type names."""
    with pytest.raises(ConfigError, match=message):
        MmsegHead(IN_CHANNELS, type="FCNHead", **options)


def test_mmsegmentation_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmseg.models", None)
    with pytest.raises(MissingPackage, match=r"head=mmseg needs .* pip install -e '.\[mmseg\]'"):
        MmsegHead(IN_CHANNELS, type="FCNHead", norm_cfg={"type": "BN"})
