import pickle
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alps.errors import CheckpointError, ConfigError, WeightsNotFound
from alps.features import timm as module
from alps.features.timm import TimmFeatures
from alps.pretrained.encoder_file import write_encoder_file
from alps.protocols import Featurizer
from alps.structures.masks import Masks
from alps.structures.records import Sample
from tests.fakes import flat_colors


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    image = flat_colors(96, 160, seed=0).astype(int) + rng.integers(-20, 20, (96, 160, 3))
    return Sample("x", image.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def masks():
    dense = np.zeros((18, 96, 160), bool)
    rng = np.random.default_rng(0)
    for mask in dense:
        y, x = rng.integers(0, 70), rng.integers(0, 120)
        mask[y : y + rng.integers(4, 60), x : x + rng.integers(4, 90)] = True
    return Masks.from_array(dense & (rng.random(dense.shape) < 0.8))


def test_rows_are_the_means_of_the_lifted_feature_maps(sample, masks):
    features = TimmFeatures(strides=(4, 16), normalize=False)
    found = features(sample, masks)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (features.encoder.mean, features.encoder.std)
    )
    image = (torch.tensor(sample.image).permute(2, 0, 1) - mean) / std
    with torch.no_grad():
        maps = features.encoder(image[None])
    lifted = torch.cat(
        [F.interpolate(maps[i], (96, 160), mode="bilinear", align_corners=False)[0] for i in (0, 2)]
    )
    expected = [lifted[:, torch.from_numpy(mask)].mean(1).numpy() for mask in masks.to_array()]
    assert features.channels == 24 + 112
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_every_map_has_the_same_say_and_every_row_length_1(sample, masks):
    raw = TimmFeatures(strides=[8, 16], normalize=False)(sample, masks)
    found = TimmFeatures(strides=[8, 16])(sample, masks)
    fine = TimmFeatures(strides=[8])(sample, masks)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[:, :40] * 2**0.5, fine, rtol=1e-4, atol=1e-6)
    expected = raw[:, 40:] / np.linalg.norm(raw[:, 40:], axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, 40:] * 2**0.5, expected, rtol=1e-4, atol=1e-6)


def test_both_is_inside_beside_alone(sample, masks):
    inside, alone, both = (
        TimmFeatures(pool=pool, box_size=64, normalize=False) for pool in ("mask", "box", "both")
    )
    found = both(sample, masks)
    assert both.channels == inside.channels + alone.channels == found.shape[1]
    np.testing.assert_array_equal(found[:, :496], inside(sample, masks))
    np.testing.assert_array_equal(found[:, 496:], alone(sample, masks))


def test_alone_a_mask_does_not_know_its_surroundings(sample, masks):
    features = TimmFeatures(pool="box", box_size=64)
    other = sample.image.copy()
    other[~masks.to_array()[3]] = 0
    mask = masks[np.array([3])]
    np.testing.assert_array_equal(features(Sample("y", other), mask), features(sample, mask))


@pytest.mark.parametrize("pool", ["mask", "box"])
def test_other_masks_of_the_image_change_nothing(sample, masks, pool):
    features = TimmFeatures(pool=pool, box_size=64)
    every = features(sample, masks)
    order = np.random.default_rng(1).permutation(len(masks))
    np.testing.assert_allclose(features(sample, masks[order]), every[order], atol=1e-5)
    np.testing.assert_array_equal(features(sample, masks), every)


@pytest.mark.parametrize("pool", ["mask", "box", "both"])
def test_no_masks_no_rows(sample, pool):
    features = TimmFeatures(pool=pool)
    assert isinstance(features, Featurizer)
    assert features(sample, Masks.empty((96, 160))).shape == (0, features.channels)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((96, 160), 1.0, (96, 160)), ((100, 150), 1.0, (96, 160)), ((20, 70), 2.0, (32, 128))],
)
def test_an_image_of_any_size_is_resized_to_the_nearest_that_fits(size, scale, expected):
    features = TimmFeatures(scale=scale)
    seen = []
    features.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2:]))
    masks = Masks.from_array(np.ones((1, *size), bool))
    assert np.isfinite(features(Sample("x", np.zeros((*size, 3), np.uint8)), masks)).all()
    assert seen == [expected]


def test_a_large_image_is_encoded_tile_by_tile():
    """On an image that repeats itself every tile looks the same, and so does a mask of them all."""
    tile = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    features = TimmFeatures(tile_size=64, tile_overlap=0)
    one = features(Sample("x", tile), Masks.from_array(np.ones((1, 64, 64), bool)))
    seen = []
    features.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2:]))
    image = np.tile(tile, (2, 3, 1))
    six = features(Sample("x", image), Masks.from_array(np.ones((1, 128, 192), bool)))
    assert seen == [(64, 64)] * 6
    np.testing.assert_allclose(six, one, atol=1e-5)


def test_the_identity_follows_settings_and_weights(monkeypatch):
    first = TimmFeatures()
    assert first.identity == TimmFeatures(strides=[4, 8, 16, 32]).identity
    assert first.identity != TimmFeatures(strides=(16,)).identity
    assert re.fullmatch("[0-9a-f]{64}", first.identity["sha256"])
    other = TimmFeatures()
    next(other.encoder.trunk.parameters()).mul_(2)
    assert other.identity != first.identity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "crop"}, "^pool=crop: expected mask, box or both"),
        ({"strides": (2, 8)}, r"^strides=\[2, 8\]: expected a list of one or more of 4, 8, 16, 32"),
        ({"strides": ()}, r"^strides=\[\]: expected"),
        ({"box_size": 100}, "^box_size=100: expected a multiple of 32 px"),
        ({"scale": 0.0}, "^scale=0.0: expected a number > 0"),
        ({"mean": [1, 2]}, r"^mean=\[1, 2\]: expected null or a list of three numbers >= 0 and"),
        ({"std": [0, 1, 1]}, r"^std=\[0, 1, 1\]: expected null or a list of three numbers > 0"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TimmFeatures(**options)


def test_a_plain_vit_has_one_trained_map(monkeypatch, sample, masks):
    monkeypatch.setattr(module.Encoder, "load_imagenet", lambda self: None)
    with pytest.raises(ConfigError, match=r"plain ViT.* set features.strides=\[16\]"):
        TimmFeatures(model="vit_tiny_patch16_224")(sample, masks)
    features = TimmFeatures(model="vit_tiny_patch16_224", strides=(16,))
    assert features(sample, masks).shape == (18, features.channels) == (18, 192)


def test_a_worker_gets_the_network_and_chooses_its_own_device(sample, masks, monkeypatch):
    """As long as the network was only hashed; one on a device would be of no use elsewhere."""
    features = TimmFeatures()
    assert features.identity["device"] == "cpu"
    planned = pickle.dumps(features)
    assert "encoder" in vars(pickle.loads(planned))
    expected = features(sample, masks)
    used = pickle.loads(pickle.dumps(features))
    assert "encoder" not in vars(used)
    np.testing.assert_array_equal(used(sample, masks), expected)
    np.testing.assert_array_equal(pickle.loads(planned)(sample, masks), expected)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"features.device=auto: .* set features.device=cuda"):
        pickle.loads(planned)(sample, masks)


# --- weights from a file ------------------------------------------------------------------------


def export(path, model="test_resnet", *, mean=(9.0, 8.0, 7.0)):
    torch.manual_seed(0)
    encoder = module.Encoder(model)
    weights = encoder.trunk.state_dict()
    write_encoder_file(path, weights, model=model, mean=mean, std=(60.0,) * 3, source="")
    return str(path)


def test_weights_and_normalisation_of_a_file(tmp_path, sample, masks):
    path = export(tmp_path / "a.safetensors")
    features = TimmFeatures(model="test_resnet", checkpoint=path, normalize=False)
    assert (features.encoder.mean, features.encoder.std) == ((9.0, 8.0, 7.0), (60.0,) * 3)
    image = torch.tensor(sample.image).permute(2, 0, 1) - torch.tensor([9, 8, 7]).view(3, 1, 1)
    torch.manual_seed(0)
    encoder = module.Encoder("test_resnet").eval()
    with torch.no_grad():
        coarse = encoder(image[None] / 60)[3]
    lifted = F.interpolate(coarse, (96, 160), mode="bilinear", align_corners=False)[0]
    expected = [lifted[:, torch.from_numpy(mask)].mean(1).numpy() for mask in masks.to_array()]
    found = features(sample, masks)[:, -coarse.shape[1] :]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_identity_has_the_content_of_a_file_and_not_its_path(tmp_path):
    (tmp_path / "b").mkdir()
    options = {"model": "test_resnet"}
    first, moved, other = (
        TimmFeatures(**options, checkpoint=export(tmp_path / name, mean=mean)).identity
        for name, mean in (
            ("a.safetensors", (9.0, 8.0, 7.0)),
            ("b/c.safetensors", (9.0, 8.0, 7.0)),
            ("d.safetensors", (9.0, 8.0, 6.0)),
        )
    )
    assert first == moved
    assert first["normalisation"] == [[9.0, 8.0, 7.0], [60.0] * 3]
    assert first["sha256"] == other["sha256"]
    assert first != other
    path = str(tmp_path / "a.safetensors")
    set_by_hand = TimmFeatures(**options, checkpoint=path, mean=[9.0, 8.0, 6.0])
    assert set_by_hand.identity == other
    assert "normalisation" not in TimmFeatures().identity


def test_a_file_of_another_network_is_refused(tmp_path):
    path = export(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="is an encoder 'test_resnet', but the model is 'tf_"):
        TimmFeatures(checkpoint=path).identity  # noqa: B018 - reads the file
    with pytest.raises(WeightsNotFound, match=r"no.safetensors: no such file"):
        TimmFeatures(checkpoint="no.safetensors").identity  # noqa: B018 - reads the file
