"""Tensor names of ALPS models in mmsegmentation, which need not be installed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

TRUNK = "encoder.trunk."
#: Tensors of the normalisation, which mmsegmentation stores in the configuration, not the weights.
NORMALISATION = ("mean", "std")

#: ALPS names to mmsegmentation's, for `FPN`, `MmsegHead`, `UPerNet`, classifier, auxiliary `FCN`.
PARTS = (
    (r"head\.pyramid\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"head\.pyramid\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"head\.decode_head\.", "decode_head."),
    (r"head\.", "decode_head."),
    (r"classifier\.", "decode_head.conv_seg."),
    (r"aux_head\.conv\.", "auxiliary_head.convs.0."),
    (r"aux_classifier\.", "auxiliary_head.conv_seg."),
)
BRANCH = re.compile(r"head\.branches\.(\d)\.(\d)\.([01])\.")

#: mmsegmentation's names to timm's, each after a part of a name that identifies the backbone: a
#: timm model, Swin, or else ResNet. ResNet V1c and V1d, whose stems have three convolutions, are
#: timm's resnet50c and resnet50d.
BACKBONES = (
    ("timm_model.", ((r"^timm_model\.(model\.)?", ""),)),
    (
        ".attn.w_msa.",
        (
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"\.w_msa\.", "."),
            (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
            (r"^stages\.(\d)\.blocks\.", r"layers.\1.blocks."),
        ),
    ),
    ("", ((r"^stem\.([0-6])\.", r"conv1.\1."), (r"^stem\.7\.", "bn1."))),
)
#: Swin's downsampling ends a stage in mmsegmentation and begins the next stage in timm.
DOWNSAMPLE = re.compile(r"^stages\.(\d)\.downsample\.")
#: Buffers that timm computes from the window size.
DERIVED = ".relative_position_index"


def mmseg_name(name: str) -> str:
    """Return mmsegmentation's name of a tensor outside the encoder.

    Raises:
        ValueError: mmsegmentation has no equivalent of the part.
    """
    if branch := BRANCH.match(name):
        level, step, part = branch.groups()
        # In mmsegmentation, the upsampling between two convolutions is a separate module.
        return (
            f"decode_head.scale_heads.{level}.{2 * int(step)}.{'gn' if part == '1' else 'conv'}."
            f"{name[branch.end() :]}"
        )
    for pattern, replacement in PARTS:
        renamed, n = re.subn(f"^{pattern}", replacement, name)
        if n:
            return renamed
    raise ValueError(f"{name} has no equivalent in mmsegmentation")


def is_mmseg(state: Collection[str]) -> bool:
    """Return whether these are the tensor names of a complete mmsegmentation model."""
    return all(any(name.startswith(p) for name in state) for p in ("backbone.", "decode_head."))


def from_mmseg(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Rename the tensors of an mmsegmentation model to ALPS names, and its backbone to timm's.

    The same rules rename tensors that the ALPS model lacks.

    Args:
        state: tensors of a checkpoint by name.
        names: tensor names of the ALPS model.

    Returns:
        The tensors by their new names.
    """
    # Matched only at the start, because timm models contain "head." too.
    decoder = (name for name in names if not name.startswith(("encoder.", *NORMALISATION)))
    from_decoder = {mmseg_name(name): name for name in decoder}
    backbone = [name.removeprefix("backbone.") for name in state if name.startswith("backbone.")]
    rules = next(rules for mark, rules in BACKBONES if any(mark in name for name in backbone))
    renamed = {}
    for name, value in state.items():
        part, _, inner = name.partition(".")
        if name.endswith(DERIVED):
            continue
        if part == "backbone" and f"encoder.{inner}" in names:  # an exported ALPS encoder
            renamed[f"encoder.{inner}"] = value
        elif part == "backbone":
            if step := DOWNSAMPLE.match(inner):
                value = _official_order(value)
                inner = f"layers.{int(step[1]) + 1}.downsample.{inner[step.end() :]}"
            for pattern, replacement in rules:
                inner = re.sub(pattern, replacement, inner)
            renamed[TRUNK + inner] = value
        else:
            renamed[from_decoder.get(name) or _name_unknown(part, inner)] = value
    return renamed


def _name_unknown(part: str, inner: str) -> str:
    """Name a tensor of an unknown head, so that an error can tell it from a missing head."""
    replacement = {"decode_head": "head", "neck": "head.neck", "auxiliary_head": "aux_head"}
    return f"{replacement.get(part, part)}.{inner}"


def _official_order(value: Tensor) -> Tensor:
    """Return weights of merged neighbours, reordered from ``nn.Unfold``'s order to Swin's.

    This inverts ``tools/model_converters/swin2mmseg.py`` of mmsegmentation.
    """
    four = value.reshape(*value.shape[:-1], -1, 4).transpose(-1, -2)
    return four[..., [0, 2, 1, 3], :].reshape(value.shape)
