"""Construction of models from plain arguments, and the encoders and heads with short names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from alps.errors import ConfigError
from alps.models import heads
from alps.models.heads.fcn import FCN
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder

#: Keys of a head's settings that are not arguments of its class.
NOT_OPTIONS = ("_target_", "_partial_")
#: Build a head from the channels of the encoder's levels, the finest first.
Head = Callable[[Sequence[int]], nn.Module]


@dataclass(frozen=True, slots=True)
class Preset:
    """An encoder with its settings, like a file of conf/model."""

    encoder: str  # name in timm
    drop_path_rate: float | None = None  # None: the encoder's default
    lr: float = 1e-4  # highest learning rate of AdamW with this drop-path rate


#: Presets by the names of conf/model.
PRESETS: Mapping[str, Preset] = {
    "convnext_tiny": Preset("convnext_tiny", 0.4),
    "efficientnet_lite0": Preset("tf_efficientnet_lite0", lr=3e-4),
    "resnet18": Preset("resnet18"),
    "resnet50": Preset("resnet50"),
    "swin_tiny": Preset("swin_tiny_patch4_window7_224", 0.2, 6e-5),
    "vit_base": Preset("vit_base_patch16_224", 0.1),
}
#: Settings of the heads by the names of conf/head, as checkpoints contain them.
HEADS: Mapping[str, Mapping[str, Any]] = {
    "fpn": {
        "_target_": "alps.models.heads.FPN",
        "_partial_": True,
        "channels": 128,
        "pyramid_channels": 256,
        "dropout": 0.1,
    },
    "unet": {"_target_": "alps.models.heads.UNet", "_partial_": True, "channels": 64},
    "upernet": {
        "_target_": "alps.models.heads.UPerNet",
        "_partial_": True,
        "channels": 512,
        "dropout": 0.1,
    },
}


def find_preset(name: str) -> Preset:
    """Return the preset with a name, or a preset for the timm encoder with this name."""
    return PRESETS.get(name) or Preset(name)


def find_head(name: str) -> Mapping[str, Any]:
    """Return the settings of the head with a name of conf/head.

    Raises:
        ConfigError: there is no such head.
    """
    if name not in HEADS:
        raise ConfigError(f"there is no head {name!r}; choose one of {', '.join(HEADS)}")
    return HEADS[name]


def bind_model(
    model: Mapping[str, Any], head: Mapping[str, Any]
) -> Callable[..., SegmentationModel]:
    """Return a function that builds a model from ``num_classes`` and ``band_names``.

    Args:
        model: settings of the encoder, like a file of conf/model.
        head: settings of the head, like a file of conf/head.
    """
    options = {key: value for key, value in head.items() if key not in NOT_OPTIONS}
    return partial(
        build_model,
        encoder=model["encoder"],
        drop_path_rate=model["drop_path_rate"],
        aux=model["aux"],
        head=partial(getattr(heads, head["_target_"].rpartition(".")[2]), **options),
    )


def build_model(
    *,
    encoder: str,
    head: Head,
    num_classes: int | Mapping[str, int],
    band_names: Sequence[str] | None = None,
    drop_path_rate: float | None = None,
    aux: bool = False,
) -> SegmentationModel:
    """Return a model with random weights.

    Args:
        encoder: name in timm.
        head: builds the head from the encoder's channels.
        num_classes: number of classes, or number of classes by dataset name.
        band_names: names of the image channels; None: RGB.
        drop_path_rate: stochastic depth of the encoder; None: the encoder's default.
        aux: whether the model has an auxiliary FCN head.

    Raises:
        ConfigError: the settings of the encoder or the head are invalid.
    """
    try:
        channels = 3 if band_names is None else len(band_names)
        trunk = Encoder(encoder, in_channels=channels, drop_path_rate=drop_path_rate)
        return SegmentationModel(
            trunk,
            head(trunk.channels),
            num_classes=num_classes,
            aux_head=FCN(trunk.channels) if aux else None,
            band_names=band_names,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"no model can be built with encoder={encoder}, drop_path_rate={drop_path_rate} and "
            f"head={head}: {error}"
        ) from error
