"""Checkpoints: weights with their configuration, classes and evaluation protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from alps.errors import CheckpointError
from alps.models.init import CLASSIFIERS
from alps.models.segmentation import SegmentationModel
from alps.pretrained.cache import load_weights
from alps.rasters.view import View
from alps.structures.bands import BandStatistics, describe_bands, describe_setting
from alps.structures.old_names import rename_targets
from alps.structures.records import Category

#: Prefixes of the settings that a resumed run may change: folders, duration, hardware, logging.
MAY_CHANGE = (
    *("run", "resume", "init", "paths.", "compile", "logger", "callbacks", "window", "name"),
    "strict",
    *("data.num_workers", "trainer.max_steps", "trainer.val_check_interval"),
    *("trainer.log_every_n_steps", "trainer.accelerator"),
)

#: Key that marks a checkpoint written before its validation was complete.
VALIDATION_DUE = "validation_due"


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """Classes, ignore index, evaluation protocol and view of one classifier."""

    categories: tuple[Category, ...]
    ignore_index: int
    protocol: str
    fingerprint: str  # digest of the images and labels; empty if written by an older version
    view: View | None = None  # of the rasters; None: other images, or written by an older version


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint written by `alps.training.task.SegmentationTask`."""

    path: Path
    version: str  # of ALPS
    config: str  # YAML, resolved
    specs: Mapping[str, ClassSpec]  # by dataset name; the key of a single dataset is empty
    window_crop: int  # side of the sliding windows in validation, px
    step: int
    validation_due: bool  # whether the validation of this step was interrupted
    weights: Mapping[str, Tensor]
    band_names: tuple[str, ...] | None = None  # in the order of the image channels; None: RGB

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as plain containers."""
        return dict(yaml.safe_load(self.config))

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets, if the model was trained on several; otherwise empty."""
        return tuple(name for name in self.specs if name)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes; raises `CheckpointError` if the model was trained on several datasets."""
        return self._only.categories

    @property
    def ignore_index(self) -> int:
        """Target value of pixels without a class."""
        return self._only.ignore_index

    @property
    def protocol(self) -> str:
        """Description of how the scores were computed."""
        return self._only.protocol

    @property
    def view(self) -> View | None:
        """Settings with which the rasters were read; None: the defaults."""
        return self._only.view

    @property
    def statistics(self) -> BandStatistics | None:
        """Statistics that normalise the bands; None: the model sees RGB."""
        if self.band_names is None:
            return None
        mean, std = (tuple(self.weights[key].flatten().tolist()) for key in ("mean", "std"))
        return BandStatistics(self.band_names, mean, std)

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights, equal for ``best.ckpt`` and ``last.ckpt`` of the same step."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def dataset(self, name: str | None = None) -> dict[str, Any]:
        """Return the settings of a dataset of the run; empty if the checkpoint has none.

        Args:
            name: name of the dataset; None if the model was trained on a single dataset.
        """
        settings = self.settings
        if "datasets" in settings:
            return dict(settings["datasets"][name])
        return dict(settings.get("dataset") or {})

    def choose(self, dataset: str | None) -> Checkpoint:
        """Return a checkpoint that keeps only the classifier of one dataset.

        Args:
            dataset: name of the dataset; None if the model was trained on a single dataset.

        Raises:
            CheckpointError: the model was not trained on this dataset, or ``dataset`` is None and
                the model was trained on several.
        """
        if dataset is None and not self.datasets:
            return self
        if dataset is None or dataset not in self.datasets:
            if not self.datasets:
                raise CheckpointError(
                    f"{self.path} was trained on a single dataset; omit classifier={dataset}"
                )
            addition = "" if dataset is None else f", not on {dataset}"
            raise CheckpointError(
                f"{self.path} was trained on several datasets{addition}; choose one of them: "
                f"classifier={'|'.join(self.datasets)}"
            )
        weights: dict[str, Tensor] = {}
        for key, value in self.weights.items():
            part, _, rest = key.partition(".")
            if part in CLASSIFIERS:
                name, _, rest = rest.partition(".")
                if name != dataset:
                    continue
            weights[f"{part}.{rest}" if rest else part] = value
        return replace(self, specs={"": self.specs[dataset]}, weights=weights)

    @property
    def _only(self) -> ClassSpec:
        return self.choose(None).specs[""]

    def load_into(self, model: SegmentationModel) -> None:
        """Copy the weights into a model built from the configuration of the checkpoint.

        Raises:
            CheckpointError: the weights do not fit, for example because ALPS has changed since.
        """
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}, written by ALPS {self.version}, does not fit the model that its "
                f"configuration describes: {error}; use that version of ALPS"
            ) from error

    def is_finished(self, max_steps: int) -> bool:
        """Return whether a run of ``max_steps`` steps is complete."""
        return self.step > max_steps or (self.step == max_steps and not self.validation_due)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Check that a run can resume with a configuration.

        With different settings, the learning curve would be a mixture of two runs.

        Args:
            settings: resolved configuration of the resumed run.

        Raises:
            CheckpointError: a setting that is not listed in `MAY_CHANGE` has changed.
        """
        saved, current = _comparable(self.settings), _comparable(settings)
        changed = [
            f"{key} was {saved.get(key)}, is {current.get(key)}"
            for key in sorted({*saved, *current})
            if saved.get(key) != current.get(key)
            and not key.startswith(MAY_CHANGE)
            # A setting that a newer version added is compatible if it is off: false or 0.
            and not (key not in saved and current[key] == 0)
        ]
        if changed:
            raise CheckpointError(
                f"{self.path} can only be resumed with the settings of its run: "
                f"{'; '.join(changed[:4])}; restore them, or start a new run from its weights "
                "with init=FILE"
            )

    def check_unfinished(self, max_steps: int) -> None:
        """Check that a run to resume is not finished.

        Args:
            max_steps: number of steps of the resumed run.

        Raises:
            CheckpointError: the run is finished.
        """
        if self.is_finished(max_steps):
            raise CheckpointError(
                f"{self.path} is finished (step {self.step}): increase trainer.max_steps to "
                "continue the run, or use stage=test ckpt=FILE to score it"
            )

    def check_bands(self, band_names: Sequence[str] | None, source: str) -> None:
        """Check that images have the bands of the model, in the same order.

        Args:
            band_names: names of the bands; None: RGB.
            source: name of the images.

        Raises:
            CheckpointError: the bands differ.
        """
        names = None if band_names is None else tuple(band_names)
        if names != self.band_names:
            raise CheckpointError(
                f"{self.path} was trained on {describe_bands(self.band_names)}, but {source} has "
                f"{describe_bands(names)}; set {describe_setting(self.band_names)}"
            )

    def check_data(self, fingerprints: Mapping[str, str]) -> None:
        """Check that the images and labels have not changed since the run started.

        Args:
            fingerprints: digest of the images and labels per dataset, with the keys of `specs`.

        Raises:
            CheckpointError: the list of images or the labels of a store have changed.
        """
        for name, current in fingerprints.items():
            if self.specs[name].fingerprint not in ("", current):
                raise CheckpointError(
                    f"{self.path} can only be resumed with the same images and labels, but those "
                    f"of {name or 'the dataset'} have changed (the list of images or the label "
                    "store); restore them, or start a new run from its weights with init=FILE"
                )


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings by dotted key, and the order of the datasets.

    The order matters because the states of samplers and optimiser are saved by index.
    """
    order = ", ".join(config.get("datasets") or ())
    return {"the order of datasets": order, **_flatten(config)}


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a nested mapping by dotted key."""
    if not isinstance(node, Mapping):
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, value in node.items():
        leaves |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Return a checkpoint, loaded onto the CPU without executing any code stored in it.

    Raises:
        CheckpointError: the file does not exist, or was not written by train.py.
        WeightsNotFound: the file cannot be read as weights.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file; pass the best.ckpt or last.ckpt of a run")
    content: dict[str, Any] = load_weights(path)
    try:
        meta = content["alps"]
        bands = meta.get("bands")
        return Checkpoint(
            path=Path(path),
            version=meta["version"],
            config=rename_targets(meta["config"]),
            specs={
                name: ClassSpec(
                    tuple(Category(i, n, tuple(color)) for i, n, color in spec["categories"]),
                    spec["ignore_index"],
                    spec["protocol"],
                    spec.get("fingerprint", ""),
                    View.from_json(spec["view"]) if "view" in spec else None,
                )
                for name, spec in meta.get("datasets", {"": meta}).items()
            },
            window_crop=meta["crop"],
            step=content["global_step"],
            validation_due=content.get(VALIDATION_DUE, False),
            weights={
                key.removeprefix("model."): value
                for key, value in content["state_dict"].items()
                if key.startswith("model.")
            },
            band_names=None if bands is None else tuple(bands),
        )
    except KeyError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of train.py: {error} is missing; weights of other "
            "programs can only initialise a run (stage=finetune init=FILE)"
        ) from error
