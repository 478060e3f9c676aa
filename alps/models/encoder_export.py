"""Export of a model's encoder with the names of timm, for timm and for features of masks."""

from __future__ import annotations

from pathlib import Path

from alps.errors import ConfigError
from alps.models.segmentation import SegmentationModel
from alps.pretrained.encoder_file import write_encoder_file

ENCODER = "encoder.safetensors"


def write_encoder(model: SegmentationModel, folder: str | Path, *, source: str) -> None:
    """Write ``encoder.safetensors``, which timm loads and ``features.checkpoint`` names.

    Args:
        model: the model.
        folder: output folder, created if missing.
        source: SHA-256 of the weights of the checkpoint.

    Raises:
        ConfigError: the file already exists or cannot be written.
    """
    path = Path(folder, ENCODER)
    if path.exists():
        raise ConfigError(f"{path} exists already; set a new folder with output=DIR")
    normalisation = model.statistics or model.encoder
    write_encoder_file(
        path,
        model.encoder.trunk.state_dict(),
        model=model.encoder.name,
        mean=normalisation.mean,
        std=normalisation.std,
        source=source,
    )
