"""Masks and features on the pretend GPU are those of the CPU, bit for bit in the same batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alps.features.joined import JoinedFeatures
from alps.features.sam import SamFeatures
from alps.features.shape import ShapeFeatures
from alps.features.sscd import SscdFeatures
from alps.features.timm import TimmFeatures
from alps.images.plain.sample import SampleImages
from alps.masks.auto import AutoMasks
from alps.masks.box import BoxMasks
from alps.masks.limits import PROMPTS
from alps.protocols import MaskSource
from alps.sam.decoder import FoldedDecoder
from alps.sam.segmenter import GPU_PROMPTS, SamSegmenter
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.records import Sample
from tests.launches import check_launches
from tests.pretend_cuda import PretendCuda


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Trees on grass, with two boxes of which one is rotated."""
    images = SampleImages(root=str(tmp_path_factory.mktemp("sample")))
    record = next(r for r in images.records() if r.image_id == "OSBS_029")
    image = np.ascontiguousarray(images.read(record).image[:200, :300])
    rows = [
        Annotation("line 1", "tree", (60, 50, 110, 90)),
        Annotation("line 2", "tree", (150, 60, 250, 160), (200, 60, 250, 110, 200, 160, 150, 110)),
    ]
    boxes, _ = check_boxes(rows, {"tree": 0}, image.shape[:2])
    return Sample("x", image, boxes)


@pytest.fixture(scope="module")
def on_gpu():
    segmenter = SamSegmenter("mobile", device="cuda")
    with PretendCuda():
        segmenter.load()
        _ = segmenter.coarse_decoder
    return segmenter


@pytest.fixture(scope="module")
def on_cpu(on_gpu):
    """A segmenter on the CPU that computes in the batches of the one on the GPU."""
    segmenter = SamSegmenter("mobile", device="cpu")
    parts = segmenter.model.prompt_encoder, segmenter.model.mask_decoder
    names = ("group", "upscale_group", "rows", "batches")
    sizes = {name: getattr(on_gpu.decoders[0], name) for name in names}
    exact, fast = (
        FoldedDecoder(*parts, **sizes, upscale_dtype=dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    segmenter.decoders = exact, fast
    segmenter.coarse_decoder = FoldedDecoder(*parts, pool=2, **sizes)
    return segmenter


@pytest.fixture(scope="module")
def masks():
    """A disk, a ring and a square."""
    y, x = np.mgrid[:200, :300]
    far = np.hypot(y - 100, x - 100)
    return Masks.from_array(np.stack([far < 40, (far > 60) & (far < 90), (y > 120) & (x > 200)]))


def equal(found: Masks, expected: Masks) -> bool:
    """Compare masks bit for bit."""
    return found.counts == expected.counts and all(
        np.array_equal(getattr(found, name), getattr(expected, name), equal_nan=True)
        for name in ("predicted_iou", "stability_score", "point_coords")
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"threads": 2, "points_per_batch": 4},
        {"fast": True},
        {"screen": True},
        {"pred_iou_thresh": 0.95, "passes": [[0.7, 0.7]]},
    ],
    ids=["exact", "threads", "fast", "screened", "cover"],
)
def test_automatic_masks(cuda, on_cpu, on_gpu, sample, settings):
    common = {"points_per_side": 4, "points_per_batch": GPU_PROMPTS, "stability_score_thresh": 0.7}
    source = AutoMasks(segmenter=on_gpu, **common | settings)
    assert isinstance(source, MaskSource)
    source.prefetch([sample])
    found = source(sample)
    expected = AutoMasks(segmenter=on_cpu, **common | settings)(sample)
    assert equal(found, expected)
    assert (~np.isnan(found.predicted_iou)).sum() >= 3  # besides superpixels


def test_masks_of_crops(cuda, on_cpu, on_gpu, sample, monkeypatch):
    """Each crop gets the embedding of the image, which saves the time of eight encoder runs."""
    found, expected = (
        _crop_masks(segmenter, sample, monkeypatch) for segmenter in (on_gpu, on_cpu)
    )
    assert equal(found, expected)
    assert (~np.isnan(found.predicted_iou)).sum() >= 3


def _crop_masks(segmenter, sample, monkeypatch):
    whole = segmenter.embed(sample.image)
    monkeypatch.setattr(
        segmenter,
        "_encode",
        lambda images: [replace(whole, size=image.shape[:2]) for image in images],
    )
    return AutoMasks(
        segmenter=segmenter,
        points_per_side=2,
        points_per_batch=GPU_PROMPTS,
        crop_n_layers=1,
        stability_score_thresh=0.7,
    )(sample)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_of_boxes(cuda, on_cpu, on_gpu, sample, prompt):
    fast = prompt == "rhbox"  # of boxes without points and masks only
    found = BoxMasks(segmenter=on_gpu, prompt=prompt, fast=fast)(sample)
    expected = BoxMasks(segmenter=on_cpu, prompt=prompt, fast=fast)(sample)
    assert equal(found, expected)
    assert len(found) == 2


def test_features(cuda, on_cpu, on_gpu, sample, masks):
    def parts(segmenter, device):
        return {
            "sam": SamFeatures(segmenter=segmenter, normalize=True),
            "timm": TimmFeatures(device=device, pool="both"),
            "sscd": SscdFeatures(),
            "shape": ShapeFeatures(shape=1.0),
        }

    found = JoinedFeatures(parts=parts(on_gpu, "cuda"))(sample, masks)
    expected = JoinedFeatures(parts=parts(on_cpu, "cpu"))(sample, masks)
    np.testing.assert_array_equal(found, expected)


def test_launches_of_the_default_recipe(cuda, on_gpu, sample):
    """tests/matrix has the same with 32 × 32 points."""
    check_launches(cuda, on_gpu, sample.image, 4)
