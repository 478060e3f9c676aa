"""Files with the weights of an encoder, under the names that timm gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from alps.errors import CheckpointError, WeightsNotFound
from alps.pretrained.cache import load_weights
from alps.structures.output import write_output

#: Keys of the weights in files of other programs that contain more than the weights.
CONTAINERS = ("state_dict", "model", "teacher")


@dataclass(frozen=True, slots=True, eq=False)
class EncoderFile:
    """Weights of an encoder, and the metadata of files that ALPS has written."""

    weights: Mapping[str, Tensor]  # by their names in timm
    model: str | None = None  # name in timm
    # Per channel, in units of the image: 0 to 255 for RGB.
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def write_encoder_file(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    model: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    source: str,
) -> None:
    """Write the weights of an encoder as safetensors.

    Args:
        path: the file.
        weights: the weights by their names in timm.
        model: name of the encoder in timm.
        mean: mean of each image channel, in units of the image: 0 to 255 for RGB.
        std: standard deviation of each image channel.
        source: SHA-256 of the weights of the checkpoint that the encoder comes from.

    Raises:
        ConfigError: the file cannot be written.
    """
    metadata = {
        "format": "pt",
        "model": model,
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "in_channels": str(len(mean)),
        "checkpoint_sha256": source,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with write_output(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def read_encoder_file(path: str | Path) -> EncoderFile:
    """Read a file of `write_encoder_file`, or a state dict of another program.

    Args:
        path: the file, as safetensors or written by torch.

    Returns:
        The weights; files of other programs have no metadata.

    Raises:
        CheckpointError: the file is a checkpoint of train.py.
        WeightsNotFound: there is no such file, or it contains no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsNotFound(
            f"{path}: no such file; expected the weights of an encoder, such as the "
            "encoder.safetensors that train.py stage=export export.to=encoder writes"
        )
    content = load_weights(path)
    if "alps" in content:
        raise CheckpointError(
            f"{path} is a checkpoint of train.py, expected the weights of an encoder; write them "
            f"with python train.py stage=export export.to=encoder ckpt={path} output=DIR, and use "
            "DIR/encoder.safetensors"
        )
    containers = (content[key] for key in CONTAINERS if isinstance(content.get(key), dict))
    state: dict[str, Any] = next(containers, content)
    weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise WeightsNotFound(
            f"{path} contains no weights, but {', '.join(list(content)[:5]) or 'nothing'}; "
            "expected a state dict with the names of timm"
        )
    if path.suffix != ".safetensors":
        return EncoderFile(weights)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "model" not in metadata:  # written by another program
        return EncoderFile(weights)
    try:
        mean, std = (_numbers(metadata[key]) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsNotFound(
            f"{path} has unreadable metadata ({error!r}), expected mean and std as lists of "
            "numbers; export the encoder again"
        ) from error
    return EncoderFile(weights, metadata["model"], mean, std)


def _numbers(text: str) -> tuple[float, ...]:
    values: Any = json.loads(text)
    return tuple(float(value) for value in values)
