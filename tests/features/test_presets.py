"""The presets of foundation models, with random weights in networks of the published shape."""

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from alps.features import timm as module
from alps.structures.masks import Masks
from alps.structures.records import Sample
from tests.programs import ROOT


def preset(name, *overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("label", ["+dataset=sample", f"features={name}", *overrides]).features


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("dinov2", (0.485, 0.456, 0.406)),
        ("dinov3", (0.485, 0.456, 0.406)),
        ("dinov3_sat", (0.43, 0.411, 0.296)),
    ],
)
def test_timm_has_the_weights_and_their_mean(name, mean):
    model = preset(name).model
    assert model in timm.list_pretrained()
    assert timm.get_pretrained_cfg(model).mean == mean


def rows_of(features):
    """Features of two masks on an image whose sides are not multiples of 14 or 16."""
    image = np.random.default_rng(0).integers(0, 255, (50, 75, 3), dtype=np.uint8)
    masks = np.zeros((2, 50, 75), bool)
    masks[0, :20], masks[1, 30:] = True, True
    return features(Sample("x", image), Masks.from_array(masks))


@pytest.mark.parametrize(
    ("name", "model"),
    [("dinov2", "vit_small_patch14_reg4_dinov2"), ("dinov3", "vit_small_patch16_dinov3")],
)
def test_the_smallest_network_of_a_preset(name, model, monkeypatch):
    monkeypatch.setattr(module.Encoder, "load_imagenet", lambda self: None)
    rows = rows_of(instantiate(preset(name, f"features.model={model}")))
    assert rows.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert np.abs(rows[0] - rows[1]).max() > 1e-4


def test_satdino_reads_its_published_file(tmp_path):
    """The teacher beside other things, as in the published checkpoint; names and shapes of DINO."""
    teacher = timm.create_model("vit_small_patch16_224", num_classes=0).state_dict()
    torch.save({"epoch": 200, "teacher": teacher, "args": "a"}, tmp_path / "satdino.pth")
    features = instantiate(preset("satdino", f"features.checkpoint={tmp_path}/satdino.pth"))
    assert rows_of(features).shape == (2, 384)
    trunk = features.encoder.trunk.state_dict()
    for name in ("patch_embed.proj.weight", "blocks.11.mlp.fc2.bias", "pos_embed"):
        torch.testing.assert_close(trunk[name], teacher[name], rtol=0, atol=0)
    published = [[0.433, 0.436, 0.407], [0.198, 0.193, 0.195]]
    np.testing.assert_allclose(
        features.identity["normalisation"], np.multiply(published, 255), rtol=1e-6
    )
