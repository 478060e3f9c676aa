"""What mmsegmentation calls the tensors of our nets; it need not be installed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

TRUNK = "encoder.trunk."
#: The normalisation, which its configuration holds and its checkpoints do not.
NORMALISATION = ("mean", "std")

#: Ours to theirs: `FPN`, any of its own heads, `UPerNet`, the classifier, the auxiliary `FCN`.
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

#: Theirs to timm's, by what only this backbone has: a net of timm; Swin; ResNet, whose stem of
#: three convolutions (V1c, V1d) is timm's resnet50c and resnet50d.
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
#: Swin's step to a coarser stage ends a stage there and begins one in timm.
DOWNSAMPLE = re.compile(r"^stages\.(\d)\.downsample\.")
#: Derived from the window, not learnt.
DERIVED = ".relative_position_index"


def mmseg_name(name: str) -> str:
    """What it calls a tensor of ours that is not the encoder's."""
    if branch := BRANCH.match(name):
        level, step, part = branch.groups()
        # Between two convolutions there is an upsampling, a module of its own.
        return (
            f"decode_head.scale_heads.{level}.{2 * int(step)}.{'gn' if part == '1' else 'conv'}."
            f"{name[branch.end() :]}"
        )
    for pattern, theirs in PARTS:
        renamed, n = re.subn(f"^{pattern}", theirs, name)
        if n:
            return renamed
    raise ValueError(f"{name} is of no part that mmsegmentation has")


def is_mmseg(state: Collection[str]) -> bool:
    """Whether these are the names of a whole net of mmsegmentation."""
    return all(any(name.startswith(p) for name in state) for p in ("backbone.", "decode_head."))


def from_mmseg(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """A net of mmsegmentation in our names, its backbone in timm's.

    What our net does not have keeps the name it would have had.

    Args:
        state: the tensors of a checkpoint.
        wanted: the names of our net.
    """
    # By the start: nets of timm have a "head." of their own.
    decoder = (name for name in wanted if not name.startswith(("encoder.", *NORMALISATION)))
    known = {mmseg_name(name): name for name in decoder}
    backbone = [name.removeprefix("backbone.") for name in state if name.startswith("backbone.")]
    rules = next(rules for mark, rules in BACKBONES if any(mark in name for name in backbone))
    renamed = {}
    for name, value in state.items():
        part, _, inner = name.partition(".")
        if name.endswith(DERIVED):
            continue
        if part == "backbone" and f"encoder.{inner}" in wanted:  # our own, exported
            renamed[f"encoder.{inner}"] = value
        elif part == "backbone":
            if step := DOWNSAMPLE.match(inner):
                value = _official_order(value)
                inner = f"layers.{int(step[1]) + 1}.downsample.{inner[step.end() :]}"
            for pattern, ours in rules:
                inner = re.sub(pattern, ours, inner)
            renamed[TRUNK + inner] = value
        else:
            renamed[known.get(name) or _foreign(part, inner)] = value
    return renamed


def _foreign(part: str, inner: str) -> str:
    """So that a head which is another one is told from none."""
    ours = {"decode_head": "head", "neck": "head.neck", "auxiliary_head": "aux_head"}
    return f"{ours.get(part, part)}.{inner}"


def _official_order(value: Tensor) -> Tensor:
    """Four neighbours' channels as Swin joins them, not as ``nn.Unfold`` does there.

    The inverse of ``tools/model_converters/swin2mmseg.py``.
    """
    four = value.reshape(*value.shape[:-1], -1, 4).transpose(-1, -2)
    return four[..., [0, 2, 1, 3], :].reshape(value.shape)
