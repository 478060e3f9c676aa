"""Image encoders: timm networks with feature maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import timm
from huggingface_hub import constants, try_to_load_from_cache
from jaxtyping import Float
from timm.layers.norm import LayerNorm2d
from timm.models import adapt_input_conv, group_parameters
from torch import Tensor, nn

from alps.errors import CheckpointError, ConfigError, WeightsNotFound
from alps.pretrained.cache import TIMEOUT, load_weights
from alps.pretrained.encoder_file import EncoderFile, read_encoder_file

STRIDES = (4, 8, 16, 32)

#: Options with which timm networks accept images of any size, by family. A plain ViT gets a patch
#: size of 16 px: timm resizes weights of other patch sizes (arXiv 2212.08013 §3.4).
ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False},  # Swin
    {"dynamic_img_size": True, "patch_size": 16},  # ViT, DeiT, DINO, EVA
    {},  # convolutional networks
)


class Encoder(nn.Module):
    """A timm network without its classifier.

    Its weights have timm's names, with the prefix ``trunk.``. Layers that no feature map depends on
    (a last norm, the classifier) are removed, so that every parameter gets a gradient.

    Args:
        name: name in timm, with or without a tag: ``resnet50``, ``convnext_tiny.fb_in22k``.
        in_channels: number of channels of the image.
        pretrained: load weights with `load_imagenet`; otherwise they are random.
        drop_path_rate: stochastic depth (arXiv 1603.09382); None: timm's default.

    Raises:
        ConfigError: timm has no such network, or it has no feature maps at strides 4, 8, 16 and 32.
    """

    strides = STRIDES
    divisor = STRIDES[-1]  # height and width of an image must be multiples of it

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 3,
        pretrained: bool = False,
        drop_path_rate: float | None = None,
    ) -> None:
        super().__init__()
        #: The entry of `ANY_SIZE` that the network accepts.
        network, self.any_size = _create(name, in_chans=in_channels, drop_path_rate=drop_path_rate)
        self.name, self.in_channels = name, in_channels
        self.trunk: Any = network.model
        config = self.trunk.pretrained_cfg
        #: Mean and standard deviation of each image channel, for values 0–255.
        self.mean = _per_channel(config["mean"], in_channels)
        self.std = _per_channel(config["std"], in_channels)

        levels = dict(zip(network.feature_info.reduction(), network.out_indices, strict=True))
        width = dict(
            zip(network.feature_info.reduction(), network.feature_info.channels(), strict=True)
        )
        self.channels: tuple[int, ...]
        self.pyramid: SimplePyramid | None = None
        if set(STRIDES) <= levels.keys():
            self.indices = [levels[stride] for stride in STRIDES]
            self.channels = tuple(width[stride] for stride in STRIDES)
        elif levels.keys() == {16}:
            self.indices = [levels[16]]
            self.pyramid = SimplePyramid(width[16])
            self.channels = self.pyramid.channels
        else:
            raise ConfigError(
                f"encoder {name!r} gives feature maps at strides {sorted(levels)}, expected "
                f"{list(STRIDES)} or a plain ViT's 16; use another model.encoder"
            )

        self._depths: dict[str, int] = {}
        if hasattr(self.trunk, "group_matcher"):  # a network without it is one layer
            self._depths = group_parameters(self.trunk, self.trunk.group_matcher(), reverse=True)
        self.num_layers: int = max(self._depths.values(), default=0) + 1
        if pretrained:
            self.load_imagenet()

    def depth_of(self, parameter_name: str) -> int:
        """Return the layer index of a parameter of this module: 0 (stem) to num_layers - 1."""
        return self._depths.get(parameter_name.removeprefix("trunk."), self.num_layers - 1)

    def forward(self, image: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the feature maps of a normalised image, the finest first.

        Raises:
            ConfigError: height or width is not a multiple of ``divisor``.
        """
        height, width = image.shape[-2:]
        if height % self.divisor or width % self.divisor:
            raise ConfigError(
                f"encoder {self.name!r} got an image of {height} x {width}, expected multiples of "
                f"{self.divisor}; set data.crop to a multiple or pad the image"
            )
        features: list[Tensor] = self.trunk.forward_intermediates(
            image, indices=self.indices, output_fmt="NCHW", intermediates_only=True
        )
        return features if self.pyramid is None else self.pyramid(features[0])

    def load_imagenet(self) -> None:
        """Load timm's pretrained weights of this network, for most networks from ImageNet.

        ``tf_efficientnet_lite0`` comes from the package index. Other weights are downloaded from
        the Hugging Face hub once and then read from its cache.

        Raises:
            WeightsNotFound: timm has no weights of this name, or no source answers.
        """
        if self.name == "tf_efficientnet_lite0":
            state = _lite0_state()
        else:
            overlay = _weights_file(self.name, self.trunk.pretrained_cfg)
            try:
                network, _ = _create(self.name, pretrained=True, pretrained_cfg_overlay=overlay)
            except (OSError, RuntimeError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise _no_weights(self.name, reason) from error
            state = network.model.state_dict()
        names = self.trunk.state_dict()
        self.trunk.load_state_dict(self.adapt_input({name: state[name] for name in names}))

    def load_file(self, path: str | Path) -> None:
        """Load weights with timm's names from a file, and their mean and standard deviation.

        timm resizes the patch and position embeddings of a ViT if their sizes differ.

        Args:
            path: a file of ``train.py stage=export export.to=encoder``, or a state dict of another
                program (safetensors or torch), which is used with timm's mean and standard
                deviation.

        Raises:
            CheckpointError: the file lacks weights of this network, or is a training checkpoint.
            WeightsNotFound: there is no such file, or it contains no weights.
        """
        file = read_encoder_file(path)
        self._check_network(path, file)
        overlay = {"state_dict": dict(file.weights)}
        try:
            network, _ = _create(
                self.name,
                in_chans=self.in_channels,
                pretrained=True,
                pretrained_cfg_overlay=overlay,
                pretrained_strict=False,  # a file may lack layers that no feature map depends on
            )
        except Exception as error:  # an untrusted file may cause any exception
            lines = [line.strip() for line in str(error).splitlines() if "mismatch" in line]
            raise CheckpointError(
                f"{path} is not a checkpoint of {self.name!r}: "
                f"{lines[0] if lines else str(error) or type(error).__name__}"
            ) from error
        state = network.model.state_dict()
        self.trunk.load_state_dict({name: state[name] for name in self.trunk.state_dict()})
        self.mean, self.std = file.mean or self.mean, file.std or self.std

    def _check_network(self, path: str | Path, file: EncoderFile) -> None:
        """Raise `CheckpointError` unless a file belongs to this network and has all its weights."""
        if file.model is not None and _architecture(file.model) != _architecture(self.name):
            raise CheckpointError(
                f"{path} is an encoder {file.model!r}, but the model is {self.name!r}; set "
                f"it to {file.model!r}"
            )
        if file.mean is not None and len(file.mean) != self.in_channels:
            raise CheckpointError(
                f"{path} is an encoder for {len(file.mean)} bands, but images with "
                f"{self.in_channels} are encoded; export an encoder that was trained on these"
            )
        names = [n for n in self.trunk.state_dict() if not n.endswith(".num_batches_tracked")]
        if missing := [name for name in names if name not in file.weights]:
            raise CheckpointError(
                f"{path} is not a checkpoint of {self.name!r}: {len(missing)} of {len(names)} "
                f"weights are missing, the first {missing[0]} (it has {next(iter(file.weights))}, "
                "...); use weights with the names of timm for this model"
            )

    def adapt_input(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the trunk's weights with the first convolution adapted to ``in_channels``.

        For one channel, the weights are summed over RGB. For more than three channels, the weights
        of RGB are repeated and scaled down to keep the response.
        """
        first = self.trunk.pretrained_cfg["first_conv"]
        adapted = {
            key: adapt_input_conv(self.in_channels, state[key])
            for key in (f"{name}.weight" for name in ([first] if isinstance(first, str) else first))
            if self.in_channels != 3 and key in state and state[key].shape[1] == 3
        }
        return state | adapted


class SimplePyramid(nn.Module):
    """Simple feature pyramid of ViTDet (arXiv 2203.16527 §3): four scales of the last map.

    Its final 1×1 and 3×3 convolutions are omitted, because the head starts with its own.

    Args:
        dim: number of channels of the last map.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.channels = (dim // 4, dim // 2, dim, dim)
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2),
                    LayerNorm2d(dim // 2),
                    nn.GELU(),
                    nn.ConvTranspose2d(dim // 2, dim // 4, kernel_size=2, stride=2),
                ),
                nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2),
            ]
        )

    def forward(self, feature: Float[Tensor, "B C h w"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return feature maps at strides 4, 8, 16 and 32 from one at stride 16."""
        return [scale(feature) for scale in self.scales]


def _create(name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Return a timm network as a feature extractor, and the `ANY_SIZE` entry that it accepts.

    timm's wrapper "getter" gives NCHW maps and keeps the names of the weights.

    Raises:
        ConfigError: timm has no such network, or it does not accept images of any size.
    """
    names = timm.list_models() if "." not in name else timm.list_pretrained()
    if name not in names:
        similar = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise ConfigError(
            f"timm has no encoder {name!r}; similar names: {', '.join(similar) or 'none'}; "
            "timm.list_models() lists all"
        )
    refusal: Exception | None = None
    for sizes in ANY_SIZE:
        try:
            network: Any = timm.create_model(
                name, features_only=True, feature_cls="getter", **sizes, **options
            )
        except (TypeError, AssertionError) as error:  # the family does not take these options
            refusal = error
            continue
        if not sizes and network.model.pretrained_cfg["fixed_input_size"]:
            raise ConfigError(
                f"encoder {name!r} accepts images of "
                f"{network.model.pretrained_cfg['input_size'][1:]} only; use a "
                "convolutional network, Swin or ViT as model.encoder"
            )
        return network, sizes
    raise ConfigError(
        f"encoder {name!r} cannot be built with these settings: {refusal}; set "
        "model.drop_path_rate=null or another model.encoder"
    ) from refusal


def _architecture(name: str) -> str:
    """Return the name of a network without the tag of its weights."""
    return name.partition(".")[0]


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Scale RGB statistics to 0–255; average them for one channel, repeat them for others."""
    if channels == 1:
        values = (sum(values) / len(values),)
    return tuple(255 * values[i % len(values)] for i in range(channels))


def _lite0_state() -> dict[str, Tensor]:
    """Load the weights of the package with timm's names; the order of the layers is the same."""
    state = load_weights("efficientnet_lite0")
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    return dict(zip(names, state.values(), strict=True))


def _weights_file(name: str, config: dict[str, Any]) -> dict[str, Any] | None:
    """Return timm's settings for the cached file, or None if it has to be downloaded.

    The hub's availability is tested first, because its client retries for 47 s.

    Raises:
        WeightsNotFound: timm has no weights of this name, or the hub does not answer.
    """
    hub_id = config.get("hf_hub_id")
    if not hub_id:
        if config.get("url"):
            return None
        raise _no_weights(name, "timm has no weights of this name")
    cached = try_to_load_from_cache(hub_id, "model.safetensors")
    if isinstance(cached, str):
        return {"file": cached, "custom_load": False}
    try:
        hub = Request(constants.ENDPOINT, method="HEAD")  # noqa: S310 - huggingface_hub's address
        urlopen(hub, timeout=TIMEOUT).close()  # noqa: S310 - huggingface_hub's address
    except HTTPError:
        pass  # the hub answers
    except OSError as error:
        reason = f"{hub_id} is not in {constants.HF_HUB_CACHE} and {constants.ENDPOINT} does not"
        raise _no_weights(name, f"{reason} answer: {error}") from error
    return None


def _no_weights(name: str, reason: str) -> WeightsNotFound:
    return WeightsNotFound(
        f"no ImageNet weights for {name!r}: {reason}; set HF_HOME to a folder that "
        "contains the hub's cache, or (train.py) set init=FILE to a timm checkpoint, or "
        "init=null to start from random weights"
    )
