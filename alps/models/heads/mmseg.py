"""Decode heads of mmsegmentation on ALPS encoders; requires the extra ``mmseg``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alps.errors import ConfigError, MissingPackage

#: Options that ALPS determines by the encoder, the classes, the loss and the last upsampling.
FIXED = (
    *("align_corners", "ignore_index", "in_channels", "init_cfg", "loss_decode", "num_classes"),
    *("out_channels", "sampler", "threshold"),
)

#: Layers that an option may build. mmengine imports and calls anything that ``type`` names, and the
#: options of a head may come from an untrusted checkpoint.
LAYERS = (
    *("BN", "GN", "IN", "LN", "Conv2d"),
    *("ELU", "GELU", "HSigmoid", "HSwish", "LeakyReLU", "PReLU", "ReLU", "ReLU6"),
    *("SiLU", "Sigmoid", "Swish", "Tanh"),
)


class MmsegHead(nn.Module):
    """A decode head of mmsegmentation without its classifier ``conv_seg``.

    Every head that ends in ``conv_seg`` and returns one feature map is supported: FCNHead, PSPHead,
    ASPPHead, UPerHead, SegformerHead, ... The initial weights are those of its constructor.

    Args:
        in_channels: number of channels of each encoder level, the finest first.
        type: name of a class of ``mmseg.models.decode_heads``.
        channels: number of output channels.
        in_index: index of the input level, or list of indices; None: all levels, or the coarsest if
            the head accepts only one.
        options: further arguments of the class.

    Raises:
        ConfigError: the head is unknown, or it does not return one feature map for these levels.
        MissingPackage: mmsegmentation is not installed.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        type: str,  # noqa: A002 - mmsegmentation's key
        channels: int = 256,
        in_index: int | Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.channels = channels
        settings = {"channels": channels, **{key: _plain(value) for key, value in options.items()}}
        _check_options(type, settings)
        head_class = _find(type)
        levels = [*range(len(in_channels))]
        failure: Exception | None = None
        for index in [levels, levels[-1]] if in_index is None else [_plain(in_index)]:
            try:
                is_list = isinstance(index, list)
                settings["in_channels"] = (
                    [in_channels[i] for i in index] if is_list else in_channels[index]
                )
                settings["in_index"] = index
                self.decode_head = _build(head_class, settings)
                self._probe(in_channels)
            except Exception as error:  # third-party code with arbitrary options may raise anything
                # A head that accepts a single level rejects a list with an assertion.
                if failure is None or isinstance(failure, AssertionError):
                    failure = error
            else:
                #: The head's settings in the form of an mmsegmentation configuration.
                self.settings: dict[str, Any] = {"type": type, **settings}
                return
        reason = str(failure) or f"an assertion in it fails with in_index={in_index}"
        raise ConfigError(
            f"head.type={type} of mmsegmentation returns no feature map for levels with "
            f"{[*in_channels]} channels: {reason}; set its options with +head.KEY=VALUE, and its "
            "levels with head.in_index"
        ) from failure

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B C h w"]:
        """Return the feature map of the head, usually of the size of its finest input level.

        Raises:
            ConfigError: a training batch has one image per device, and the head pools to 1 × 1.
            ValueError: the head fails for a different reason.
        """
        try:
            return cast(Tensor, self.decode_head(list(features)))
        except ValueError as error:
            if not str(error).startswith("Expected more than 1 value per channel"):
                raise
            raise ConfigError(
                f"{self.settings['type']} got a batch of 1 image in training, expected 2 or more "
                "per device, which the batch norm of its 1 x 1 pooling needs; set data.batch_size=2"
            ) from error

    @torch.no_grad()
    def _probe(self, in_channels: Sequence[int]) -> None:
        features = [torch.zeros(1, c, 8 >> i, 8 >> i) for i, c in enumerate(in_channels)]
        result = self.decode_head.eval()(features)
        self.decode_head.train()
        if not isinstance(result, Tensor) or result.shape[1] != self.channels:
            raise ValueError(f"it returns a {type(result).__name__}, not one feature map")


def _find(name: str) -> Any:
    """Return the class of a decode head by name; only mmsegmentation itself is imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about optional operations of unused heads
            from mmseg.models import decode_heads
            from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    except ImportError as error:
        raise MissingPackage(
            f"head=mmseg needs mmsegmentation ({error}); install it: "
            "in a clone of ALPS, pip install -e '.[mmseg]'"
        ) from error
    heads = {
        key: head_class
        for key in decode_heads.__all__
        if isinstance(head_class := getattr(decode_heads, key), type)
        and issubclass(head_class, BaseDecodeHead)
    }
    if name not in heads:
        raise ConfigError(
            f"head.type={name} is not a decode head of mmsegmentation; expected one of "
            f"{', '.join(sorted(heads))}"
        )
    return heads[name]


def _build(head_class: Any, settings: Mapping[str, Any]) -> nn.Module:
    from mmengine.config import ConfigDict

    # The classifier is removed and the loss is unused, but without these settings mmseg warns.
    unused = ConfigDict(
        num_classes=3, loss_decode={"type": "CrossEntropyLoss", "avg_non_ignore": True}
    )
    head: nn.Module = head_class(**ConfigDict(settings), **unused)
    if not isinstance(getattr(head, "conv_seg", None), nn.Conv2d):
        raise ValueError("it has no classifier conv_seg to remove")
    head.conv_seg = nn.Identity()
    return head


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    if fixed := sorted(options.keys() & set(FIXED)):
        raise ConfigError(
            f"head.type={name}: {', '.join(fixed)} cannot be set; the encoder, the classes, loss= "
            "and the model determine these options"
        )
    if unknown := sorted(set(_types(options)) - set(LAYERS)):
        raise ConfigError(
            f"head.type={name}: an option would build {', '.join(unknown)}, expected one of "
            f"{', '.join(LAYERS)}"
        )


def _types(options: Any) -> list[str]:
    """Return the names of all types that the options would build."""
    if isinstance(options, Mapping):
        names = [str(options["type"])] if "type" in options else []
        return names + [name for value in options.values() for name in _types(value)]
    if isinstance(options, list):
        return [name for value in options for name in _types(value)]
    return []


def _plain(value: Any) -> Any:
    """Return a configuration value with plain dicts and lists instead of other containers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
