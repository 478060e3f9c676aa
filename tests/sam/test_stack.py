"""Many masks at once equal masks one by one."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alps.sam import stack
from alps.sam.patch import Patch
from alps.sam.stack import draw, measure, to_measures
from alps.sam.upsample import Axis


@pytest.mark.parametrize("size", [(90, 150), (300, 40), (1, 60)])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_patches(size, masked, monkeypatch):
    monkeypatch.setattr(stack, "CHUNK", 4)  # of seven masks
    generator = torch.Generator().manual_seed(size[0])
    coarse = torch.randn(1, 7, 9, 9, generator=generator) * 5 - 2
    logits = F.interpolate(coarse, (64, 64), mode="bicubic")[0]
    logits[3] = -9  # an empty mask
    used = tuple(max(1, int(s * 256 / max(size) + 0.5)) for s in size)
    rows, cols = (Axis(64, 256, u, s) for u, s in zip(used, size, strict=True))
    valid = torch.rand(size, generator=generator) > 0.3 if masked else None
    found = to_measures([measure(part, (rows, cols), 1.0, valid) for part in logits.split(5)])
    windows = draw(logits, (rows, cols), found.boxes, valid)
    assert found.area[3] == 0
    assert (found.area > 0).sum() >= 3
    for i in range(7):
        patch = Patch.cut(logits[i], 1.0, rows, cols)
        if found.area[i] == 0:
            assert patch is None or patch.box() is None
            assert found.boxes[i].tolist() == [0, 0, 0, 0]
            assert windows[i].size == 0
            continue
        assert tuple(found.boxes[i].tolist()) == patch.box()
        assert found.stability[i] == patch.stability(1.0)
        window = patch.window(patch.box()).numpy()
        assert found.area[i] == window.sum()
        x0, y0, x1, y1 = patch.box()
        expected = window if valid is None else window & valid[y0:y1, x0:x1].numpy()
        np.testing.assert_array_equal(windows[i], expected)
        assert found.data[i] == expected.sum()


def test_pixels_outside_the_box_are_dropped():
    """Rounding may differ between the batches of `measure` and `draw`."""
    axes = (Axis(64, 256, 256, 100),) * 2
    logits = torch.full((1, 64, 64), -9.0)
    logits[0, 20:40, 10:30] = 9
    boxes = to_measures([measure(logits, axes, 1.0)]).boxes
    (whole,) = draw(logits, axes, boxes)
    (part,) = draw(logits, axes, boxes + np.array([1, 2, -3, -1]))
    np.testing.assert_array_equal(part, whole[2:-1, 1:-3])
    (padded,) = draw(logits, axes, boxes + np.array([-1, -1, 1, 1]))
    np.testing.assert_array_equal(padded, np.pad(whole, 1))


def test_no_masks():
    axes = (Axis(64, 256, 256, 100),) * 2
    assert len(to_measures([measure(torch.zeros(0, 64, 64), axes, 1.0)]).area) == 0
    assert len(to_measures([]).boxes) == 0
    assert draw(torch.zeros(0, 64, 64), axes, np.zeros((0, 4), np.int64)) == []
