"""Memory of SAM on a GPU, counted on PyTorch's meta device: tensors without data."""

import pytest
import torch

from alps.sam.build import build_sam
from alps.sam.decoder import FoldedDecoder
from alps.sam.limits import ARCHITECTURES
from alps.sam.mobile import MobileEncoder
from alps.sam.segmenter import GPU_IMAGES, GPU_PROMPTS, GPU_UPSCALED
from alps.sam.vit import fuse_attention
from tests.allocations import Peak


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_of_images_takes_less_than_5_gib(architecture):
    with torch.device("meta"):
        encoder = build_sam(architecture).image_encoder
    if isinstance(encoder, MobileEncoder):
        encoder.fold()
    else:
        fuse_attention(encoder)
    images = torch.zeros(GPU_IMAGES[architecture], 3, 1024, 1024, device="meta")
    with torch.inference_mode(), Peak() as peak:
        encoder(images)
    assert 1 << 30 < peak.bytes < 5 << 30


def test_a_batch_of_prompts_takes_about_two_gib():
    sam = build_sam("mobile").to("meta")
    sizes = {"group": GPU_PROMPTS, "upscale_group": GPU_UPSCALED, "rows": 4096}
    decoder = FoldedDecoder(sam.prompt_encoder, sam.mask_decoder, **sizes)
    with torch.inference_mode():
        image = decoder.prepare(torch.zeros(1, 256, 64, 64, device="meta"))
        with Peak() as peak:
            decoded = decoder.decode(image, boxes=torch.zeros(GPU_PROMPTS, 4, device="meta"))
        with Peak() as upscaling:
            decoder.upscale(decoded, torch.ones(GPU_PROMPTS, 3, dtype=torch.bool))
    assert upscaling.bytes < 2 * (1 << 30)
    assert peak.bytes < 2.4 * (1 << 30)


def test_the_peak_is_of_what_exists_at_the_same_time():
    with torch.inference_mode(), Peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        c = b.view(10, 100)
        del a, b
        d = c + 1
        del c, d
        _ = torch.zeros(500)
    assert peak.bytes == 2 * 4000
