"""Checkpoints: what a saved net needs to be used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from alps.errors import CheckpointError
from alps.models.segmentation import SegmentationModel
from alps.types import Category
from alps.weights import load_weights


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint written by `alps.training.task.SegmentationTask`."""

    path: Path
    config: str  # YAML, resolved
    categories: tuple[Category, ...]
    ignore_index: int
    protocol: str
    crop: int
    step: int
    weights: Mapping[str, Tensor]

    def load_into(self, model: SegmentationModel) -> None:
        """Copy the weights; the model must be built from the checkpoint's own configuration."""
        model.load_state_dict(self.weights)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; no code in it can run.

    Raises:
        WeightsNotFound: no such file, or no checkpoint at all.
        CheckpointError: a checkpoint, but not one of train.py.
    """
    content: dict[str, Any] = load_weights(path)
    try:
        meta = content["alps"]
        return Checkpoint(
            path=Path(path),
            config=meta["config"],
            categories=tuple(
                Category(i, name, tuple(color)) for i, name, color in meta["categories"]
            ),
            ignore_index=meta["ignore_index"],
            protocol=meta["protocol"],
            crop=meta["crop"],
            step=content["global_step"],
            weights={
                key.removeprefix("model."): value
                for key, value in content["state_dict"].items()
                if key.startswith("model.")
            },
        )
    except KeyError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of train.py: {error} is missing; weights of another "
            "program can start a run (stage=finetune init=FILE), not be tested"
        ) from error
