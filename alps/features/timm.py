"""Feature maps of any timm network, averaged inside each mask or over a cut-out of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from alps.errors import ConfigError
from alps.features.cutout import batches_of_cutouts
from alps.features.limits import LIMITS
from alps.features.pool import FeatureMap, MaskMeans, axis
from alps.pretrained.device import DeviceSetting
from alps.pretrained.encoder import Encoder
from alps.structures.masks import Masks
from alps.structures.records import Sample
from alps.structures.settings import check_attributes

#: Held while a network is loaded or computes: several at a time would need more memory and would
#: not be faster on one device.
_ENCODING = Lock()


class TimmFeatures:
    """Mean of an ImageNet encoder's feature maps over a mask's pixels.

    With ``pool="mask"`` the encoder runs once per tile of the image, so features also describe the
    surroundings of a mask. With ``pool="box"`` it runs on a resized cut-out of each mask.
    ``pool="both"`` concatenates the two.

    Args:
        model: any encoder of timm with weights (see `alps.pretrained.encoder.Encoder`).
        checkpoint: file of the encoder's weights with timm's names, such as train.py exports; its
            metadata contain the mean and standard deviation. None: timm's own weights.
        mean: mean of each image channel, 0 to 255. None: that of the weights.
        std: standard deviation of each image channel, 0 to 255. None: that of the weights.
        strides: strides of the feature maps to concatenate, in this order.
        pool: "mask", "box" or "both".
        scale: factor by which a tile is enlarged before it is encoded.
        box_size: side of a cut-out, in pixels.
        normalize: scale the vectors of all feature maps to equal lengths and their concatenation
            to length 1, so that the map with the largest values does not dominate.
        tile_size: side of the overlapping tiles that larger images are cut into, in pixels.
        tile_overlap: overlap of neighbouring tiles, in pixels.
        device: a PyTorch device; "auto" is the first GPU, or the CPU if there is none, in each
            process that computes features.

    The weights are fetched and loaded when they are first needed.

    Raises:
        ConfigError: an argument is out of range, or the encoder has no such trained feature map.
        CheckpointError: ``checkpoint`` belongs to another network.
        WeightsNotFound: timm has no weights of this name, or they cannot be fetched, or there is
            no file ``checkpoint``.
    """

    def __init__(
        self,
        *,
        model: str = "tf_efficientnet_lite0",
        checkpoint: str | None = None,
        mean: Sequence[int | float] | None = None,
        std: Sequence[int | float] | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        pool: str = "mask",
        scale: float = 1.0,
        box_size: int = 128,
        normalize: bool = True,
        tile_size: int = 1024,
        tile_overlap: int = 128,
        device: str = "auto",
    ) -> None:
        self.model, self.strides, self.pool = model, list(strides), pool
        self.checkpoint, self.mean, self.std = checkpoint, mean, std
        self.scale, self.box_size, self.normalize = scale, box_size, normalize
        self.tile_size, self.tile_overlap = tile_size, tile_overlap
        check_attributes(LIMITS["alps.features.TimmFeatures"], self)
        self._device = DeviceSetting(device, key="features.device")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the device, which each process chooses for itself, and a network on it."""
        state = vars(self).copy()
        if state.pop("_on_device", None) is not None:
            del state["encoder"]
        state.pop("device", None)
        return state

    @property
    def identity(self) -> Mapping[str, Any]:
        """All settings, the weights' hash, the kind of device, and the algorithm's version."""
        names = ("model", "pool", "scale", "box_size", "normalize", "tile_size", "tile_overlap")
        changed = (self.checkpoint, self.mean, self.std) != (None, None, None)
        normalisation = [[*self.encoder.mean], [*self.encoder.std]]
        return {
            "features": "timm",
            "version": 2,
            **{name: getattr(self, name) for name in names},
            "strides": self.strides,
            "sha256": self._sha256,
            # That of timm's own weights is not part of it, as in earlier versions.
            **({"normalisation": normalisation} if changed else {}),
            "device": self._device.kind,
        }

    @property
    def channels(self) -> int:
        """Length of the concatenated vectors, C."""
        return sum(self.channel_groups)

    @property
    def channel_groups(self) -> Sequence[int]:
        """Number of channels of each feature map."""
        return self._channels * (2 if self.pool == "both" else 1)

    @property
    def parallel(self) -> bool:
        """True: the network is used by one thread at a time, and everything else by several."""
        return True

    def __call__(self, sample: Sample, masks: Masks) -> Float32[np.ndarray, "N C"]:
        """Return one row per mask; the masks belong to the image, and none is empty."""
        if not len(masks):
            return np.zeros((0, self.channels), np.float32)
        with torch.inference_mode():
            parts: list[Float[Tensor, "N _"]] = []
            if self.pool != "box":
                parts += self._inside_masks(sample, masks)
            if self.pool != "mask":
                parts += self._over_cutouts(sample, masks)
            if self.normalize:
                parts = [F.normalize(part) / len(parts) ** 0.5 for part in parts]
            return torch.cat(parts, dim=1).numpy()

    @cached_property
    def device(self) -> torch.device:
        """The device of this process.

        Raises:
            ConfigError: this process has no device of the kind of `identity`.
        """
        return self._device.choose()

    @cached_property
    def encoder(self) -> Encoder:
        """The network, loaded on first use, on the CPU until it computes."""
        encoder = Encoder(self.model, pretrained=self.checkpoint is None)
        if self.checkpoint is not None:
            encoder.load_file(self.checkpoint)
        encoder.mean = encoder.mean if self.mean is None else tuple(map(float, self.mean))
        encoder.std = encoder.std if self.std is None else tuple(map(float, self.std))
        if encoder.pyramid is not None and self.strides != [16]:
            raise ConfigError(
                f"features.strides={self.strides}: {self.model!r} is a plain ViT, whose only "
                "trained feature map has stride 16; set features.strides=[16]"
            )
        return encoder.eval().requires_grad_(False)

    @cached_property
    def _on_device(self) -> Encoder:
        """`encoder`, moved to the device of this process."""
        return self.encoder.to(self.device)

    def _inside_masks(self, sample: Sample, masks: Masks) -> list[Float[Tensor, "N _"]]:
        """Return the mean of each feature map inside each mask."""
        means = MaskMeans(masks, self._channels)
        for tile in sample.tiles(self.tile_size, self.tile_overlap):
            pixels = sample.image[None, tile.y0 : tile.y1, tile.x0 : tile.x1]
            maps = [
                FeatureMap(
                    level[0].permute(1, 2, 0).contiguous().numpy(),
                    axis(level.shape[2], tile.size[0]),
                    axis(level.shape[3], tile.size[1]),
                )
                for level in self._encode(pixels, self._input_size(tile.size))
            ]
            means.add(tile, maps)
        return [torch.from_numpy(rows) for rows in means.means()]

    def _over_cutouts(self, sample: Sample, masks: Masks) -> list[Float[Tensor, "N _"]]:
        """Return the mean of each feature map over the cut-out of each mask."""
        fill = np.rint(self.encoder.mean).astype(np.uint8)  # about 0 after normalisation
        size = (self.box_size, self.box_size)
        batches = [
            [level.mean(dim=(2, 3)) for level in self._encode(pixels, size)]
            for pixels in batches_of_cutouts(sample, masks, side=self.box_size, fill=fill)
        ]
        return [torch.cat(rows) for rows in zip(*batches, strict=True)]

    def _encode(
        self, pixels: UInt8[np.ndarray, "B H W 3"], size: tuple[int, int]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the feature maps of images resized to ``size`` (H, W), on the CPU."""
        with _ENCODING:
            return self._encode_alone(pixels, size)

    def _encode_alone(
        self, pixels: UInt8[np.ndarray, "B H W 3"], size: tuple[int, int]
    ) -> list[Float[Tensor, "B _ _ _"]]:
        mean, std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1)
            for values in (self.encoder.mean, self.encoder.std)
        )
        x = torch.tensor(pixels, device=self.device).permute(0, 3, 1, 2).float()
        if size != x.shape[2:]:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        levels = dict(zip(self.encoder.strides, self._on_device((x - mean) / std), strict=True))
        return [levels[stride].cpu() for stride in self.strides]

    def _input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the nearest (H, W) that the encoder accepts without padding."""
        divisor = self.encoder.divisor
        height, width = (max(round(self.scale * side / divisor), 1) * divisor for side in size)
        return height, width

    @property
    def _channels(self) -> list[int]:
        """Number of channels of each feature map of `strides`."""
        channels = dict(zip(self.encoder.strides, self.encoder.channels, strict=True))
        return [channels[stride] for stride in self.strides]

    @cached_property
    def _sha256(self) -> str:
        """SHA-256 of the values of the weights, which does not depend on their file format."""
        digest = hashlib.sha256()
        for name, value in self.encoder.trunk.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()
