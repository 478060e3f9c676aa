"""The cheap order of work gives what the plain order gives."""

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from torch.nn import functional as F
from torchvision.ops import nms

from alps.masks import candidates
from alps.masks.candidates import Thresholds
from alps.masks.proposals import Proposer
from alps.sam.protocol import Embedding, Prediction

OPEN = Thresholds(
    pred_iou_thresh=0.3,
    stability_score_thresh=0.8,
    stability_score_offset=1.0,
    box_nms_thresh=0.5,
    min_area=0.0,
    max_area=1e9,
)


class Blobs:
    """Three nested, ragged discs around each point, the same for the same point."""

    identity = {}  # noqa: RUF012 - read only
    points_per_batch = 7

    def __init__(self, seed):
        self.seed = seed
        self.decoded = 0

    def embed(self, image):
        raise AssertionError("a Proposer gets its embedding")

    def prefetch(self, images):
        raise AssertionError("a Proposer gets its embedding")

    def logits(self, x, y):
        generator = torch.Generator().manual_seed(int(x) * 1000 + int(y) + self.seed * 7)
        coarse = torch.randn(1, 3, 9, 9, generator=generator) * 6
        ragged = F.interpolate(coarse, (64, 64), mode="bicubic")[0]
        at = torch.arange(64) * 150 / 64
        distance = ((at - x)[None] ** 2 + (at - y)[:, None] ** 2).sqrt()
        logits = torch.tensor([8.0, 16, 30])[:, None, None] - distance + ragged
        return logits, torch.rand(3, generator=generator)

    def predict(
        self, embedding, *, points=None, boxes=None, multimask_output=True, pred_iou_thresh=-1.0,
        fast=False, coarse=False,
    ):  # fmt: skip
        self.decoded += 0 if coarse else len(points)
        parts = [self.logits(x, y) for x, y in points]
        logits, iou = torch.stack([p[0] for p in parts]), torch.stack([p[1] for p in parts])
        if fast:
            logits = logits.bfloat16().float()
        if coarse:
            logits = F.avg_pool2d(logits, 2)
        keep = iou > pred_iou_thresh
        prompt, mask = keep.nonzero(as_tuple=True)
        return Prediction(logits[keep], iou[keep], prompt, mask)


def plain(blobs, points, embedding):
    """segment_anything's order of operations."""
    parts = [blobs.logits(x, y) for x, y in points]
    logits, iou = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    prompt = torch.arange(len(points)).repeat_interleave(3)
    full = F.interpolate(logits[:, None], (256, 256), mode="bilinear")
    full = full[..., : embedding.input_size[0], : embedding.input_size[1]]
    full = F.interpolate(full, embedding.size, mode="bilinear")[:, 0]
    stability = calculate_stability_score(full, 0.0, OPEN.stability_score_offset)
    keep = (iou > OPEN.pred_iou_thresh) & (stability >= OPEN.stability_score_thresh)
    full, iou, stability, prompt = full[keep] > 0, iou[keep], stability[keep], prompt[keep]
    order = nms(batched_mask_to_box(full).float(), iou, OPEN.box_nms_thresh)
    return full[order].numpy(), iou[order], stability[order], prompt[order]


@pytest.fixture
def embedding():
    return Embedding(torch.zeros(256, 16, 16), (90, 150), (154, 256))


def propose(blobs, embedding, points, **options):
    settings = {"points_per_batch": 7, "thresholds": OPEN, "fast": False}
    return Proposer(blobs, embedding, points, **{**settings, **options})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("budget", [64 << 20, 0])
def test_equals_the_plain_order(embedding, seed, budget, monkeypatch):
    """Also where no logits may be kept and every mask is decoded again."""
    monkeypatch.setattr(candidates, "BUDGET", budget)
    blobs = Blobs(seed)
    points = np.random.default_rng(seed).integers(0, 90, (30, 2)).astype(np.float32)
    masks, iou, stability, prompt = plain(blobs, points, embedding)
    found = propose(blobs, embedding, points)()
    assert len(found) == len(masks) > 2
    assert (blobs.decoded > 30) == (budget == 0)
    for p, mask, i, s, k in zip(found, masks, iou, stability, prompt, strict=True):
        full = np.zeros((90, 150), bool)
        x0, y0, x1, y1 = p.box
        full[y0:y1, x0:x1] = p.window
        assert (full != mask).mean() < 1e-4
        assert p.window.any(0).all() or not mask.any(0)[x0:x1].all()
        assert p.predicted_iou == pytest.approx(i.item())
        assert p.stability_score == pytest.approx(s.item(), abs=1e-3)
        assert p.prompt == k


def test_refused_boxes_and_areas_suppress_nothing(embedding):
    blobs = Blobs(0)
    points = np.random.default_rng(0).integers(0, 90, (30, 2)).astype(np.float32)
    every = propose(blobs, embedding, points)()
    largest = max(int(p.window.sum()) for p in every)
    gate = Thresholds(
        **{f: getattr(OPEN, f) for f in OPEN.__dataclass_fields__ if f != "max_area"},
        max_area=largest - 0.5,
    )
    smaller = propose(blobs, embedding, points, thresholds=gate)()
    assert smaller
    assert all(p.window.sum() < largest for p in smaller)
    first = every[0].box
    rest = propose(blobs, embedding, points)(accept=lambda box: box != first)
    assert first not in [p.box for p in rest]
    assert {p.box for p in rest} - {p.box for p in every}  # what the first had suppressed


def test_fast_decides_doubtful_masks_in_float32(embedding):
    points = np.random.default_rng(2).integers(0, 90, (40, 2)).astype(np.float32)
    exact = propose(Blobs(2), embedding, points)()
    fast = propose(Blobs(2), embedding, points, fast=True)()
    assert [p.prompt for p in fast] == [p.prompt for p in exact]


@pytest.mark.parametrize("threads", [1, 2])
def test_screening_decodes_no_point_that_finds_nothing_new(embedding, threads):
    points = np.random.default_rng(3).integers(0, 90, (12, 2)).astype(np.float32)
    often = points[np.random.default_rng(4).permutation(np.repeat(np.arange(12), 5))]
    blobs, screened = Blobs(3), Blobs(3)
    every = propose(blobs, embedding, often)()
    found = propose(screened, embedding, often, screen=True, threads=threads)()
    assert blobs.decoded == 60
    assert screened.decoded <= 12
    # The first of equal points answers for all of them.
    assert [(p.prompt, p.box, p.predicted_iou) for p in found] == [
        (p.prompt, p.box, p.predicted_iou) for p in every
    ]
    assert len(found) > 3
