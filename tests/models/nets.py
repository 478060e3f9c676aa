"""Nets without a zero in them, and files of their weights."""

import torch
from safetensors.torch import save_file

from alps.models.heads.fcn import FCN
from alps.models.heads.fpn import FPN
from alps.models.heads.unet import UNet
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder import Encoder


def build(
    name="test_resnet", *, num_classes=5, head=UNet, in_channels=3, aux=False, band_names=None
):
    """A net in which no tensor is zero or one."""
    channels = in_channels if band_names is None else len(band_names)
    encoder = Encoder(name, in_channels=channels)
    model = SegmentationModel(
        encoder,
        head(encoder.channels, channels=32 if head is FPN else 8),
        num_classes=num_classes,
        aux_head=FCN(encoder.channels, channels=8) if aux else None,
        band_names=band_names,
    )
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor)
    return model


def copy(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def save(tmp_path, state, name="a.pt"):
    path = tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return str(path)
