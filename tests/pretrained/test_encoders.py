import time

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from alps.errors import ConfigError, WeightsNotFound
from alps.images.plain.sample import SampleImages
from alps.pretrained import encoder as encoders
from alps.pretrained.encoder import STRIDES, Encoder

NAMES = [
    "resnet18",
    "resnet50",
    "swin_tiny_patch4_window7_224",
    "convnext_tiny",
    "tf_efficientnet_lite0",
    "vit_tiny_patch16_224",
]


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(encoders.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")


# --- feature maps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "in_channels"),
    [(name, 3) for name in NAMES] + [("resnet18", 1), ("vit_tiny_patch16_224", 4)],
)
def test_four_levels_at_the_claimed_strides_and_every_parameter_learns(name, in_channels):
    size = (96, 64)
    encoder = Encoder(name, in_channels=in_channels)
    features = encoder(torch.randn(2, in_channels, *size))
    assert encoder.strides == STRIDES
    assert [tuple(f.shape) for f in features] == [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    sum(f.square().mean() for f in features).backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_features_equal_those_of_timm(name):
    encoder = Encoder(name).eval()
    reference = timm.create_model(name, features_only=True).eval()
    values = encoder.trunk.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), values, strict=True)))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(encoder(image), reference(image)[-4:], strict=True):
            torch.testing.assert_close(ours, theirs)


def test_swin_at_its_own_size_equals_timms_and_is_no_longer_bound_to_it():
    encoder = Encoder("swin_tiny_patch4_window7_224").eval()
    reference = timm.create_model("swin_tiny_patch4_window7_224", features_only=True).eval()
    values = encoder.trunk.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), values, strict=True)))
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for ours, theirs in zip(encoder(image), reference(image), strict=True):
            torch.testing.assert_close(ours, theirs.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_a_vit_of_other_patches_gets_patches_of_16():
    encoder = Encoder("eva02_tiny_patch14_224").eval()
    assert [f.shape[-1] for f in encoder(torch.randn(1, 3, 64, 64))] == [16, 8, 4, 2]


@pytest.mark.parametrize(("height", "width"), [(100, 64), (64, 33)])
def test_other_sizes_are_refused(height, width):
    with pytest.raises(ConfigError, match=rf"{height} x {width}, expected multiples of 32; set"):
        Encoder("resnet18")(torch.zeros(1, 3, height, width))


# --- construction -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet19"}, "has no encoder 'resnet19'; similar names: .*resnet18"),
        ({"name": "resnet50.a1_in2k"}, r"similar names: .*resnet50\.a1_in1k"),
        ({"name": "mixer_b16_224"}, r"accepts images of \(224, 224\) only; use a conv"),
        ({"name": "convmixer_768_32"}, r"strides \[7\], expected \[4, 8, 16, 32\]"),
        ({"name": "vgg11", "drop_path_rate": 0.1}, "'drop_path_rate'; set model.drop_path_rate"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        Encoder(**options)
    assert "\n" not in str(error.value)


def test_the_statistics_follow_the_channels():
    rgb, gray, four = (Encoder("resnet18", in_channels=n) for n in (3, 1, 4))
    np.testing.assert_allclose(rgb.mean, (123.675, 116.28, 103.53))
    np.testing.assert_allclose(rgb.std, (58.395, 57.12, 57.375))
    np.testing.assert_allclose(gray.mean, (np.mean(rgb.mean),))
    assert four.mean == (*rgb.mean, rgb.mean[0])
    assert four.std == (*rgb.std, rgb.std[0])


def test_drop_path():
    def rates(encoder):
        return [m.drop_prob for m in encoder.modules() if type(m).__name__ == "DropPath"]

    assert rates(Encoder("convnext_tiny")) == []
    assert max(rates(Encoder("convnext_tiny", drop_path_rate=0.4))) == pytest.approx(0.4)


@pytest.mark.parametrize(("name", "layers"), [("resnet18", 9), ("vit_tiny_patch16_224", 13)])
def test_depth_rises_from_the_stem_to_the_last_block(name, layers):
    encoder = Encoder(name)
    assert encoder.num_layers == layers
    depths = [encoder.depth_of(n) for n, _ in encoder.named_parameters()]
    assert depths == sorted(depths)
    assert set(depths) == set(range(layers))


def test_depth_of_what_stands_above_the_net():
    encoder = Encoder("vit_tiny_patch16_224")
    assert encoder.depth_of("trunk.pos_embed") == 0
    assert encoder.depth_of("trunk.blocks.0.attn.qkv.weight") == 1
    assert encoder.depth_of("pyramid.scales.0.0.weight") == 12


def test_a_net_that_timm_does_not_divide_is_one_layer():
    encoder = Encoder("poolformer_s12")
    assert encoder.num_layers == 1
    assert {encoder.depth_of(n) for n, _ in encoder.named_parameters()} == {0}


# --- ImageNet -----------------------------------------------------------------------------------


def test_the_packages_weights_fit_a_real_image(tmp_path):
    """What the batch norms see is what they saw on ImageNet; in a wrong order they would not."""
    images = SampleImages(root=str(tmp_path))
    image = images.read(images.records()[1]).image[:384, :384]
    encoder = Encoder("tf_efficientnet_lite0", pretrained=True).eval()
    x = torch.tensor(image).permute(2, 0, 1)[None]
    x = (x - torch.tensor(encoder.mean).view(-1, 1, 1)) / torch.tensor(encoder.std).view(-1, 1, 1)
    ratios = []

    def compare(norm, args):
        ratios.append((args[0].var(dim=(0, 2, 3)) / norm.running_var).nanmedian().item())

    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(compare)
    with torch.no_grad():
        encoder(x)
    assert len(ratios) == 48
    assert all(0.3 < ratio < 3 for ratio in ratios[:24])  # the rest sees one scene's semantics


@pytest.mark.parametrize("in_channels", [1, 3])
def test_what_the_hub_has_cached_needs_no_network(tmp_path, monkeypatch, no_hub, in_channels):
    reference = timm.create_model("resnet18")
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        encoders, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors")
    )
    encoder = Encoder("resnet18", in_channels=in_channels, pretrained=True)
    weight = reference.conv1.weight
    expected = weight if in_channels == 3 else weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(encoder.trunk.conv1.weight, expected)
    torch.testing.assert_close(encoder.trunk.layer4[1].bn2.weight, reference.layer4[1].bn2.weight)


def test_a_hub_that_does_not_answer_is_given_up_at_once(no_hub, tmp_path):
    start = time.monotonic()
    with pytest.raises(WeightsNotFound) as error:
        Encoder("resnet18", pretrained=True)
    assert time.monotonic() - start < 5
    message = str(error.value)
    assert "no ImageNet weights for 'resnet18'" in message
    assert f"timm/resnet18.a1_in1k is not in {tmp_path / 'hub'}" in message
    assert "http://127.0.0.1:9 does not answer: " in message
    assert "init=FILE" in message
    assert "HF_HOME" in message
    assert "\n" not in message


def test_a_net_without_weights(no_hub):
    with pytest.raises(WeightsNotFound, match="_lite1': timm has no weights of this name; set HF"):
        Encoder("efficientnet_lite1", pretrained=True)


def test_the_gray_net_sees_what_the_colour_net_sees_in_gray():
    colour, gray = Encoder("resnet18").eval(), Encoder("resnet18", in_channels=1).eval()
    state = colour.trunk.state_dict()
    gray.trunk.load_state_dict(gray.adapt_input(state))
    assert gray.adapt_input(gray.trunk.state_dict()).keys() == state.keys()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for a, b in zip(gray(image), colour(image.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
