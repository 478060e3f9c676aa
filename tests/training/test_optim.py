from functools import partial

import pytest
import torch
from timm.optim import param_groups_layer_decay

from alps.errors import ConfigError
from alps.models.heads.fpn import FPN
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder
from alps.training.optim import Optim, parameter_groups


def optim(**options):
    settings = {"optimizer": partial(torch.optim.AdamW), "lr": 1e-3, "weight_decay": 0.05}
    return Optim(**{**settings, **options})


def tiny_model(encoder="test_vit"):
    trunk = Encoder(encoder)
    head = FPN(trunk.channels, channels=32, pyramid_channels=32)
    return SegmentationModel(trunk, head, num_classes=3)


@pytest.mark.parametrize("encoder", ["test_vit", "test_resnet"])
def test_every_parameter_is_in_one_group(encoder):
    model = tiny_model(encoder)
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.05, layer_decay=0.9)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters())


def test_vectors_and_position_embeddings_are_not_decayed():
    model = tiny_model()
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.05, layer_decay=1.0)
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    names = {name: decay[id(p)] for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        plain = parameter.ndim <= 1 or name.endswith(("pos_embed", "cls_token"))
        assert names[name] == (0.0 if plain else 0.05), name
    assert names["encoder.trunk.pos_embed"] == 0.0
    assert names["classifier.weight"] == 0.05


def test_layers_below_learn_slower():
    model = tiny_model()
    groups = parameter_groups(model, lr=1.0, weight_decay=0.05, layer_decay=0.5)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    rates = {name: rate[id(p)] for name, p in model.named_parameters()}
    above = [rate for name, rate in rates.items() if not name.startswith("encoder.")]
    assert set(above) == {1.0}
    blocks = [rates[f"encoder.trunk.blocks.{i}.attn.qkv.weight"] for i in range(2)]
    assert blocks[0] == blocks[1] / 2
    assert rates["encoder.trunk.patch_embed.proj.weight"] < blocks[0] < blocks[1] < 1


@pytest.mark.parametrize("encoder", ["test_vit", "test_resnet", "swin_tiny_patch4_window7_224"])
def test_encoders_have_the_rates_and_decays_of_timm(encoder):
    """timm counts the head as part of the last layer; here it is a layer of its own."""
    model = tiny_model(encoder)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.05, layer_decay=0.5)
    ours = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    trunk = model.encoder.trunk
    exempt = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") else ()
    theirs = param_groups_layer_decay(trunk, 0.05, exempt, layer_decay=0.5)
    assert sum(len(group["params"]) for group in theirs) == len([*trunk.parameters()])
    for group in theirs:
        for parameter in group["params"]:
            assert ours[id(parameter)] == (0.5 * group["lr_scale"], group["weight_decay"])


@pytest.mark.parametrize("schedule", ["poly", "cosine"])
def test_the_rate_rises_then_falls_to_its_end(schedule):
    factors = [optim(schedule=schedule, warmup=0.1, min_lr=1e-5).factor(s, 100) for s in range(101)]
    peak = factors.index(max(factors))
    assert factors[:10] == sorted(factors[:10])
    assert 0 < factors[0] < 0.2
    assert peak == 10
    assert factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0.01)


def test_poly_is_the_power_of_what_is_left():
    assert optim(schedule="poly", power=0.9, warmup=0.0).factor(25, 100) == pytest.approx(0.75**0.9)
    assert optim(schedule="constant").factor(99, 100) == 1
    assert optim(schedule="cosine", warmup=0.0).factor(50, 100) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "step"}, "^schedule=step: expected poly, cosine or constant"),
        ({"warmup": 1.0}, "^warmup=1.0: expected a fraction of the steps >= 0 and < 1"),
        ({"layer_decay": 0.0}, "^layer_decay=0.0: expected a factor > 0 and <= 1"),
        ({"min_lr": 0.1}, "^min_lr=0.1: expected a learning rate >= 0 and <= lr=0.001"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        optim(**options)
