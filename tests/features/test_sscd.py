import sys

import numpy as np
import pytest

from alps.errors import ConfigError, MissingPackage
from alps.features.sscd import SscdFeatures
from alps.protocols import Featurizer
from alps.structures.masks import Masks
from alps.structures.records import Sample


@pytest.fixture(scope="module")
def sample():
    return Sample("x", np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def masks():
    return Masks.from_array(np.random.default_rng(1).random((18, 80, 80)) < 0.5)


def test_real_weights_know_what_looks_alike(sample):
    """A disk, the same one elsewhere, and stripes in its place."""
    y, x = np.mgrid[:200, :200]
    image = np.zeros((200, 200, 3), np.uint8)
    disks = [(y - cy) ** 2 + (x - cx) ** 2 < 30**2 for cy, cx in ((50, 50), (140, 150))]
    stripes = (abs(y - 50) < 30) & (abs(x - 150) < 30)
    for disk in disks:
        image[disk] = (200, 60, 30)
    image[stripes] = np.where((x // 6 % 2 == 0)[..., None], 255, (0, 90, 0))[stripes]
    masks = Masks.from_array(np.stack([*disks, stripes]))
    rows = SscdFeatures()(Sample("x", image), masks)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-4)
    assert rows[0] @ rows[1] > 0.95
    assert rows[0] @ rows[2] < 0.6


def test_other_masks_of_the_image_change_nothing(sample, masks):
    features = SscdFeatures(box_size=64)
    every = features(sample, masks)
    order = np.random.default_rng(1).permutation(len(masks))
    np.testing.assert_allclose(features(sample, masks[order]), every[order], atol=1e-5)
    np.testing.assert_array_equal(features(sample, masks), every)


def test_no_masks_no_rows_and_no_weights(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    features = SscdFeatures()
    assert isinstance(features, Featurizer)
    assert features(sample, Masks.empty((80, 80))).shape == (0, features.channels)
    assert len(features.identity["sha256"]) == 64


def test_without_onnxruntime_the_extra_is_named(sample, masks, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackage, match=r"onnxruntime, .* pip install onnxruntime"):
        SscdFeatures()(sample, masks)


def test_an_unknown_model_is_refused():
    with pytest.raises(ConfigError, match=r"^model=resnet: expected sscd or sscd_dist"):
        SscdFeatures(model="resnet")
