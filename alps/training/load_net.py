"""Loading of models from checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml

from alps.errors import CheckpointError
from alps.models.build import bind_model
from alps.models.segmentation import SegmentationModel
from alps.prediction.net import Net
from alps.prediction.sliding import SlidingWindow
from alps.training.checkpoint import Checkpoint, read_checkpoint


def load_net(
    ckpt: str | Path,
    *,
    classifier: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Net:
    """Return the trained model of a checkpoint that `alps.fit` or train.py wrote.

    Args:
        ckpt: path of the checkpoint, such as the ``best.ckpt`` of a run.
        classifier: name of the dataset whose classes are predicted, if the model was trained on
            several.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``auto`` (bf16-mixed on GPUs that support it), or a precision of Lightning.

    Raises:
        CheckpointError: the checkpoint cannot be read or has no such classifier.
        ConfigError: a GPU is requested, but there is none.
        WeightsNotFound: the file is not a checkpoint.
    """
    saved, model = restore(ckpt, classifier)
    return Net(
        model,
        categories=saved.categories,
        window=SlidingWindow(crop=saved.window_crop),
        weights=saved.sha256,
        view=saved.view,
        device=device,
        precision=precision,
    )


def restore(
    ckpt: str | Path, classifier: str | None = None, dataset: str | None = None
) -> tuple[Checkpoint, SegmentationModel]:
    """Read a checkpoint and build its model.

    If the model was trained on several datasets, only one classifier is restored.

    Args:
        ckpt: path of the checkpoint.
        classifier: name of the dataset whose classifier is restored; None if the model was
            trained on a single dataset.
        dataset: default of ``classifier``, if the model was trained on a dataset of this name.

    Returns:
        The checkpoint and the model.

    Raises:
        CheckpointError: the checkpoint cannot be read or has no such classifier.
    """
    saved = read_checkpoint(ckpt)
    if classifier is None and dataset in saved.datasets:
        classifier = dataset
    saved = saved.choose(classifier)
    try:
        settings = saved.settings
        head = trusted(settings["head"], "alps.models.heads")
        build = bind_model(settings["model"], head)
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{ckpt}, written by ALPS {saved.version}, has a configuration that this version "
            f"cannot read ({type(error).__name__}: {error}); use that version of ALPS"
        ) from error
    with torch.random.fork_rng(devices=[]):  # for initial weights, which are replaced
        model = build(num_classes=len(saved.categories), band_names=saved.band_names)
    saved.load_into(model)
    return saved, model


def trusted(settings: Any, package: str) -> Any:
    """Return part of a checkpoint's configuration if it builds only classes of a package.

    A checkpoint may come from an untrusted source, and ``_target_`` can name any function.

    Args:
        settings: part of the configuration, as plain containers.
        package: package whose public classes may be built, such as ``alps.images``.

    Raises:
        CheckpointError: the configuration would call anything outside the package.
    """
    public = {f"{package}.{name}" for name in import_module(package).__all__}
    for target in _targets(settings):
        if target not in public:
            raise CheckpointError(
                f"the checkpoint's configuration would call {target}, expected a class of "
                f"{package}; do not use it unless you trust its origin"
            )
    return settings


def _targets(settings: Any) -> Iterator[Any]:
    """Yield every ``_target_`` in a part of a configuration."""
    if isinstance(settings, dict):
        if "_target_" in settings:
            yield settings["_target_"]
        for value in settings.values():
            yield from _targets(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _targets(value)
