"""The folded decoder against segment_anything's, with random weights: every path, small."""

import subprocess
import sys

import pytest
import torch
from segment_anything.build_sam import _build_sam
from torch.nn import functional as F

from alps.sam.decoder import FoldedDecoder


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    sam = _build_sam(48, 2, 2, [1]).eval().requires_grad_(False)
    for parameter in sam.parameters():  # biases and norms away from 0 and 1
        parameter += torch.randn_like(parameter) * 0.05
    return sam


@pytest.fixture(scope="module")
def embedding():
    return torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))


PROMPTS = {
    "point": {"points": 1},
    "points": {"points": 3},
    "box": {"boxes": True},
    "point and box": {"points": 1, "boxes": True},
}


def prompts(n, points=0, boxes=False):
    generator = torch.Generator().manual_seed(n)
    given = {}
    if points:
        xy = torch.rand(n, points, 2, generator=generator) * 1024
        given["points"] = (xy, torch.randint(0, 2, (n, points), generator=generator))
    if boxes:
        corner = torch.rand(n, 2, generator=generator) * 500
        given["boxes"] = torch.cat([corner, corner + 20 + 400 * torch.rand(n, 2)], 1)
    return given


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("multimask", [True, False])
def test_equals_segment_anything(sam, embedding, kind, multimask):
    given = prompts(5, **PROMPTS[kind])
    sparse, dense = sam.prompt_encoder(
        points=given.get("points"), boxes=given.get("boxes"), masks=None
    )
    logits, iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    decoder = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder)
    decoded = decoder.decode(decoder.prepare(embedding), **given, multimask_output=multimask)
    torch.testing.assert_close(decoded.iou, iou, rtol=1e-3, atol=1e-4)
    every = torch.ones_like(iou, dtype=torch.bool)
    found = decoder.upscale(decoded, every)
    scale = logits.abs().max()
    torch.testing.assert_close(found / scale, logits.flatten(0, 1) / scale, rtol=0, atol=1e-4)


def test_coarse_equals_segment_anything_on_a_pooled_embedding(sam, embedding):
    given = prompts(5, points=1)
    sparse, dense = sam.prompt_encoder(points=given["points"], boxes=None, masks=None)
    logits, iou = sam.mask_decoder(
        image_embeddings=F.avg_pool2d(embedding, 2),
        image_pe=F.avg_pool2d(sam.prompt_encoder.get_dense_pe(), 2),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense[..., ::2, ::2],
        multimask_output=True,
    )
    decoder = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, pool=2)
    decoded = decoder.decode(decoder.prepare(embedding), **given)
    torch.testing.assert_close(decoded.iou, iou, rtol=1e-3, atol=1e-4)
    found = decoder.upscale(decoded, torch.ones_like(iou, dtype=torch.bool))
    scale = logits.abs().max()
    assert found.shape == (15, 128, 128)
    torch.testing.assert_close(found / scale, logits.flatten(0, 1) / scale, rtol=0, atol=1e-4)


def test_only_kept_masks_are_drawn_in_order(sam, embedding):
    decoder = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, group=2)
    decoded = decoder.decode(decoder.prepare(embedding), **prompts(5, points=1))
    every = decoder.upscale(decoded, torch.ones_like(decoded.iou, dtype=torch.bool))
    keep = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    torch.testing.assert_close(decoder.upscale(decoded, keep), every[keep.flatten()])
    assert decoder.upscale(decoded, torch.zeros_like(keep)).shape == (0, 256, 256)


@pytest.mark.parametrize("group", [1, 3, 64])
def test_groups_change_nothing(sam, embedding, group):
    given = prompts(7, boxes=True)
    results = []
    for size in (2, group):
        decoder = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, group=size)
        decoded = decoder.decode(decoder.prepare(embedding), **given)
        every = torch.ones_like(decoded.iou, dtype=torch.bool)
        results.append((decoded.iou, decoder.upscale(decoded, every)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


def test_bfloat16_logits_are_near(sam, embedding):
    given = prompts(3, points=1)
    exact = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder)
    fast = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, upscale_dtype=torch.bfloat16)
    a, b = (d.decode(d.prepare(embedding), **given) for d in (exact, fast))
    torch.testing.assert_close(a.iou, b.iou)
    every = torch.ones_like(a.iou, dtype=torch.bool)
    x, y = exact.upscale(a, every), fast.upscale(b, every)
    assert y.dtype == torch.float32
    assert (x - y).abs().mean() < 0.02 * x.abs().mean()


COMPILED = """
import functools, torch
from segment_anything.build_sam import _build_sam
from alps.sam.decoder import FoldedDecoder

torch.set_num_threads(1)
torch.manual_seed(0)
sam = _build_sam(48, 2, 2, [1]).eval().requires_grad_(False)
plain = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder)
torch.compile = functools.partial(torch.compile, backend="eager")
compiled = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, compile=True)
image = plain.prepare(torch.randn(1, 256, 64, 64))
points = torch.rand(3, 1, 2) * 1024, torch.ones(3, 1, dtype=torch.int)
a, b = (decoder.decode(image, points=points) for decoder in (plain, compiled))
torch.testing.assert_close(a.iou, b.iou)
keep = torch.ones_like(a.iou, dtype=torch.bool)
torch.testing.assert_close(plain.upscale(a, keep), compiled.upscale(b, keep))
assert compiled.transform is not compiled.transformer

torch._dynamo.reset()
torch._dynamo.utils.counters.clear()
padded = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, group=8, batches=(4, 8), compile=True)
for n in (5, 6, 8):
    points = torch.rand(n, 1, 2) * 1024, torch.ones(n, 1, dtype=torch.int)
    a, b = (decoder.decode(image, points=points) for decoder in (plain, padded))
    assert a.iou.shape == b.iou.shape
    torch.testing.assert_close(a.iou, b.iou)
    keep = torch.ones_like(a.iou, dtype=torch.bool)
    x, y = plain.upscale(a, keep), padded.upscale(b, keep)
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
"""


def test_compiled_graphs_are_equal():
    """What torch.compile captures, without the minute of code generation.

    In a process of its own: it cannot trace the checks of shapes that the tests switch on.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
