"""Construction of SAM networks and loading of their official weights."""

from __future__ import annotations

from collections.abc import Mapping

from segment_anything import sam_model_registry
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor

from alps.errors import WeightsNotFound
from alps.sam.limits import LIMITS
from alps.sam.mobile import MobileEncoder, rename_keys
from alps.structures.settings import check_settings


def build_sam(architecture: str) -> Sam:
    """Return a SAM network with random weights, in evaluation mode.

    All architectures have the same prompt encoder and mask decoder (SAM, appendix A).

    Args:
        architecture: one of `alps.sam.limits.ARCHITECTURES`.

    Raises:
        ConfigError: the architecture is unknown.
    """
    check_settings(LIMITS["alps.sam.load_segmenter"], {"architecture": architecture})
    if architecture != "mobile":
        return sam_model_registry[architecture]().eval()
    return Sam(
        image_encoder=MobileEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=256,
            image_embedding_size=(64, 64),
            input_image_size=(1024, 1024),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    ).eval()


def load_sam_state(sam: Sam, architecture: str, state: Mapping[str, Tensor]) -> Sam:
    """Load the state of an official checkpoint into a network, strictly.

    Args:
        sam: network from `build_sam`.
        architecture: its architecture, one of `alps.sam.limits.ARCHITECTURES`.
        state: state dict of the checkpoint.

    Returns:
        ``sam``.

    Raises:
        WeightsNotFound: the checkpoint belongs to a different network; the message names tensors
            that are missing or unexpected, or whose shape differs.
    """
    if architecture == "mobile":
        state = rename_keys(state)
    expected, loaded = sam.state_dict(), dict(state)
    missing = sorted(expected.keys() - loaded.keys())
    unexpected = sorted(loaded.keys() - expected.keys())
    shapes = [k for k in expected.keys() & loaded.keys() if expected[k].shape != loaded[k].shape]
    if missing or unexpected or shapes:
        raise WeightsNotFound(
            f"the checkpoint is not one of SAM {architecture}: {len(missing)} tensors missing "
            f"{missing[:2]}, {len(unexpected)} unexpected {unexpected[:2]}, {len(shapes)} with "
            f"a different shape {shapes[:2]}; set sam= to the checkpoint's architecture"
        )
    sam.load_state_dict(loaded, strict=True)
    return sam
