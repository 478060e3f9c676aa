import pytest
import torch
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from torch.nn import functional as F

from alps.sam.patch import Patch
from alps.sam.upsample import Axis, bilinear


@pytest.mark.parametrize(("low", "high"), [(64, 256), (256, 90), (154, 90), (1, 5), (7, 7)])
def test_bilinear_equals_torch(low, high):
    x = torch.randn(low, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x[None, None, :, None], (high, 1), mode="bilinear")[0, 0, :, 0]
    torch.testing.assert_close(bilinear(low, high) @ x, expected)


@pytest.mark.parametrize("size", [(90, 150), (300, 40), (256, 256), (1, 60)])
@pytest.mark.parametrize("seed", range(5))
def test_patches_equal_full_size_masks(size, seed):
    generator = torch.Generator().manual_seed(seed)
    scale = 256 / max(size)
    used = tuple(max(1, int(s * scale + 0.5)) for s in size)
    coarse = torch.randn(1, 6, 9, 9, generator=generator) * 5 - 2
    logits = F.interpolate(coarse, (64, 64), mode="bicubic")[0]
    full = F.interpolate(logits[None], (256, 256), mode="bilinear")[..., : used[0], : used[1]]
    full = F.interpolate(full, size, mode="bilinear")[0]
    stability = calculate_stability_score(full, 0.0, 1.0)
    boxes = batched_mask_to_box(full > 0)
    axes = [Axis(64, 256, u, s) for u, s in zip(used, size, strict=True)]
    for low, mask, s, (x0, y0, x1, y1) in zip(logits, full > 0, stability, boxes, strict=True):
        patch = Patch.cut(low, 1.0, *axes)
        if not mask.any():
            assert patch is None or patch.box() is None
            continue
        assert patch.box() == (x0, y0, x1 + 1, y1 + 1)
        assert patch.stability(1.0) == pytest.approx(s.item(), abs=2e-3)
        window = patch.window(patch.box())
        expected = mask[y0 : y1 + 1, x0 : x1 + 1]
        assert (window != expected).float().mean() < 1e-3


def test_nothing_above_the_offset_is_no_patch():
    axis = Axis(64, 256, 256, 100)
    assert Patch.cut(torch.full((64, 64), -5.0), 1.0, axis, axis) is None
