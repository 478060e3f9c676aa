"""Predictions on the pretend GPU are those of the CPU, bit for bit."""

import copy

import numpy as np
import pytest
import torch

from alps.models.segmentation import SegmentationModel
from alps.prediction.files import Predictor
from alps.prediction.sliding import SlidingWindow
from alps.structures.palette import distinct_colors
from alps.structures.records import Category
from tests.factories import draw_scene
from tests.models.nets import build
from tests.pretend_cuda import CUDA

CATEGORIES = [Category(i, f"class {i}", color) for i, color in enumerate(distinct_colors(5))]


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return build(num_classes=5).eval()


def predict(model, device, image, **window):
    def net(batch):
        assert batch.device.type == torch.device(device).type
        return model(batch).logits

    predictor = Predictor(
        net=net,
        window=SlidingWindow(crop=64, **window),
        categories=CATEGORIES,
        weights="",
        device=device,
        buffer=1 << 12,
    )
    return predictor.array(image)


@pytest.mark.parametrize("size", [(50, 64), (150, 200)], ids=["one crop", "bands"])
@pytest.mark.parametrize("window", [{}, {"flip": True, "scales": (1.0, 1.5)}], ids=["plain", "tta"])
def test_sliding_windows(cuda, model, size, window):
    image = draw_scene(size, seed=1)[0]
    expected = predict(model, "cpu", image, **window)
    found = predict(copy.deepcopy(model).to(CUDA), CUDA, image, **window)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 1
