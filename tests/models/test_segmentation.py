import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from alps.errors import ConfigError
from alps.models.heads.fcn import FCN
from alps.models.heads.fpn import FPN
from alps.models.heads.unet import UNet
from alps.models.heads.upernet import UPerNet
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder

CONF = Path(__file__).parents[2] / "conf"
HEADS = {
    "upernet": lambda channels: UPerNet(channels, channels=32),
    "fpn": lambda channels: FPN(channels, channels=32, pyramid_channels=32),
    "unet": lambda channels: UNet(channels, channels=8),
}


def build(encoder="resnet18", head="upernet", *, in_channels=3, num_classes=5, aux=True):
    encoder = Encoder(encoder, in_channels=in_channels)
    return SegmentationModel(
        encoder,
        HEADS[head](encoder.channels),
        num_classes=num_classes,
        aux_head=FCN(encoder.channels, channels=16) if aux else None,
    )


def images(batch=2, channels=3, size=(64, 96)):
    return torch.randint(0, 256, (batch, channels, *size), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("encoder", "head"),
    [
        ("resnet18", "upernet"),
        ("resnet18", "fpn"),
        ("resnet18", "unet"),
        ("swin_tiny_patch4_window7_224", "upernet"),
        ("convnext_tiny", "fpn"),
        ("tf_efficientnet_lite0", "unet"),
        ("vit_tiny_patch16_224", "upernet"),
    ],
)
def test_every_net_learns(encoder, head):
    model = build(encoder, head)
    out = model(images())
    assert out.logits.shape == out.aux.shape == (2, 5, 64, 96)
    (out.logits.square().mean() + out.aux.square().mean()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_parts_have_the_names_checkpoints_have():
    parts = {name.split(".")[0] for name in build().state_dict()}
    expected = {"encoder", "head", "classifier", "aux_head", "aux_classifier", "mean", "std"}
    assert parts == expected
    assert {name.split(".")[0] for name in build(aux=False).state_dict()} == {
        p for p in expected if not p.startswith("aux")
    }
    assert build(num_classes=7).num_classes == 7


def test_the_auxiliary_head_is_for_training_only():
    model = build()
    assert model(images()).aux is not None
    assert model.eval()(images()).aux is None
    assert build(aux=False)(images()).aux is None


def joint(aux=True):
    return build(num_classes={"a": 5, "b": 3, "c": 7}, aux=aux)


def test_several_datasets_share_all_but_the_classifiers():
    model = joint().eval()
    assert model.num_classes == 15
    assert {n for n in model.state_dict() if n.startswith("classifier")} == {
        f"classifier.{name}.{kind}" for name in "abc" for kind in ("weight", "bias")
    }
    pixels = images(batch=4)
    found = model(pixels, (1, 0, 3))
    assert [tuple(part.logits.shape[:2]) for part in found] == [(1, 5), (0, 3), (3, 7)]
    alone = build(num_classes=7, aux=False).eval()
    state = model.state_dict()
    names = {name: name.replace("classifier.", "classifier.c.") for name in alone.state_dict()}
    alone.load_state_dict({name: state[theirs] for name, theirs in names.items()})
    torch.testing.assert_close(found[2].logits, alone(pixels[1:]).logits)


def test_every_classifier_gets_a_gradient_even_of_no_image():
    """So that processes of which one has no image of a dataset can add up their gradients."""
    model = joint()
    found = model(images(batch=3), (1, 0, 2))
    sum(part.logits.square().sum() + part.aux.square().sum() for part in found).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert model.classifier["b"].weight.grad.abs().max() == 0
    assert model.classifier["c"].weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["", "a.b", "train", "keys"])
def test_names_that_a_net_cannot_have(name):
    with pytest.raises(ConfigError, match=r"cannot be the name .* choose a different NAME"):
        build(num_classes={"a": 2, name: 3})


def test_images_are_normalised_inside():
    model = build().eval()
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pixels = images()
    logits = model(pixels).logits
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.encoder.mean, model.encoder.std))
    torch.testing.assert_close(seen[0], (pixels - mean) / std)
    torch.testing.assert_close(model(pixels.float()).logits, logits)


def test_other_channels():
    for channels in (1, 4):
        assert build(in_channels=channels).eval()(images(channels=channels)).logits.shape[1] == 5


def test_the_memory_format_changes_nothing():
    model = build().eval()
    pixels = images()
    expected = model(pixels).logits
    model.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(model(pixels).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_bfloat16(head):
    model = build(head=head).eval()
    pixels = images()
    expected = model(pixels).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = model(pixels).logits
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().max() < 0.1 * expected.abs().max()


def test_it_compiles_to_one_graph_for_any_number_of_images_per_dataset():
    """torch.compile gives up after eight graphs.

    In a process of its own: here each call is checked, which the compiler cannot look into.
    """
    code = """
import copy
import torch
from torch._dynamo.utils import counters
from alps.pretrained.encoder import Encoder
from alps.models.heads.fcn import FCN
from alps.models.heads.upernet import UPerNet
from alps.models.segmentation import SegmentationModel

torch.set_num_threads(1)
image = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
encoder = Encoder("test_vit")
model = SegmentationModel(
    encoder,
    UPerNet(encoder.channels, channels=8, dropout=0.0),
    num_classes={"a": 3, "b": 2},
    aux_head=FCN(encoder.channels, channels=8),
)
model.eval()
expected = [model(image, (n, 8 - n)) for n in range(9)]
names = [*model.state_dict()]
model.compile(backend="eager", fullgraph=True)
for n, outputs in enumerate(expected):
    for found, output in zip(model(image, (n, 8 - n)), outputs, strict=True):
        torch.testing.assert_close(found.logits, output.logits)
assert counters["stats"]["unique_graphs"] == 1, counters["stats"]
model.train()
for n in range(9):
    sum(output.logits.sum() + output.aux.sum() for output in model(image, (n, 8 - n))).backward()
assert counters["stats"]["unique_graphs"] == 2, counters["stats"]  # with the auxiliary head
assert not counters["graph_break"]
assert [*model.state_dict()] == names

averaged = copy.deepcopy(model)  # as weight averaging does
torch.nn.init.zeros_(averaged.encoder.trunk.patch_embed.proj.weight)
assert not averaged(image, (4, 4))[0].logits.equal(model(image, (4, 4))[0].logits)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# --- conf/ --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONF.glob("model/*.yaml")), ids=lambda path: path.stem)
def test_every_model_in_conf_builds(path):
    model = OmegaConf.load(path)
    if OmegaConf.is_missing(model, "encoder"):
        model.encoder = "resnet18"
    assert set(model) == {"encoder", "drop_path_rate", "aux", "lr"}
    assert model.lr > 0
    with torch.device("meta"):
        encoder = Encoder(model.encoder, drop_path_rate=model.drop_path_rate)
    assert len(encoder.channels) == 4


@pytest.mark.parametrize(
    "path",
    # mmseg needs its extra: tests/mmsegmentation builds it.
    [path for path in sorted(CONF.glob("head/*.yaml")) if path.stem != "mmseg"],
    ids=lambda path: path.stem,
)
def test_every_head_in_conf_builds(path):
    head = instantiate(OmegaConf.load(path))([8, 16, 24, 32])
    assert head.channels == OmegaConf.load(path).channels
