import torch
from segment_anything.modeling.image_encoder import ImageEncoderViT

from alps.sam.vit import FusedAttention, fuse_attention


def test_fused_attention_changes_rounding_only():
    """Of a block with windows and of one that attends to the whole image."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=128,
        embed_dim=48,
        depth=2,
        num_heads=3,
        window_size=3,
        global_attn_indexes=(1,),
        use_rel_pos=True,
        out_chans=16,
    )
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        before = encoder(x)
        fuse_attention(encoder)
        after = encoder(x)
    assert all(isinstance(block.attn, FusedAttention) for block in encoder.blocks)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5 * before.abs().max().item())
