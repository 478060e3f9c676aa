"""Checkpoints: what a saved net needs to be used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from alps.errors import CheckpointError
from alps.models.segmentation import SegmentationModel
from alps.types import Category
from alps.weights import load_weights

#: What a resumed run may say otherwise: where, how long, and what is written down.
MAY_CHANGE = (
    *("run", "resume", "init", "paths.", "compile", "logger", "callbacks", "window", "name"),
    *("data.num_workers", "trainer.max_steps", "trainer.val_check_interval"),
    *("trainer.log_every_n_steps", "trainer.accelerator"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint written by `alps.training.task.SegmentationTask`."""

    path: Path
    version: str  # of ALPS
    config: str  # YAML, resolved
    categories: tuple[Category, ...]
    ignore_index: int
    protocol: str
    crop: int
    step: int
    weights: Mapping[str, Tensor]

    def load_into(self, model: SegmentationModel) -> None:
        """Copy the weights into a model built from the checkpoint's own configuration.

        Raises:
            CheckpointError: they do not fit, as after a change of ALPS.
        """
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}, written by ALPS {self.version}, does not fit the net that its own "
                f"configuration describes: {error}; use that version"
            ) from error

    def check_resume(self, config: Mapping[str, Any], max_steps: int) -> None:
        """Refuse to go on with the run in other words: its curve would be that of two runs.

        Args:
            config: the resolved configuration of the run that resumes.
            max_steps: where it ends.

        Raises:
            CheckpointError: a setting has changed that `MAY_CHANGE` does not name, or nothing is
                left to do.
        """
        before, now = _flatten(yaml.safe_load(self.config)), _flatten(config)
        changed = [
            f"{key} was {before.get(key)}, is {now.get(key)}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE)
        ]
        if changed:
            raise CheckpointError(
                f"resume={self.path} goes on with the same run only: {'; '.join(changed[:4])}; say "
                "what was said then, or start a new run from its weights by init=FILE"
            )
        if self.step >= max_steps:
            raise CheckpointError(
                f"resume={self.path} is finished (step {self.step}); a larger trainer.max_steps "
                "goes on, stage=test ckpt=FILE scores it"
            )


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by their dotted keys."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; no code in it can run.

    Raises:
        WeightsNotFound: the file is no checkpoint at all.
        CheckpointError: there is no such file, or it is not one of train.py.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; give the best.ckpt or last.ckpt of a run")
    content: dict[str, Any] = load_weights(path)
    try:
        meta = content["alps"]
        return Checkpoint(
            path=Path(path),
            version=meta["version"],
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
