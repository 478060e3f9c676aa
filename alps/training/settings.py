"""The settings of `alps.fit` as a configuration of train.py.

Checkpoints contain it, so that train.py can resume, test and export runs of `alps.fit`. A test
compares it with conf/.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alps import images as public
from alps.models.build import find_head, find_preset
from alps.models.init import CLASSIFIERS
from alps.protocols import ImageSet


def fit_settings(
    *,
    model: str,
    head: str,
    init: str | None,
    steps: int,
    batch_size: int,
    crop: int | None,
    lr: float | None,
    run: str,
    device: str,
    precision: str,
    seed: int,
    strict: bool,
) -> dict[str, Any]:
    """Return the configuration of a run of `alps.fit`, which describes the arguments.

    Raises:
        ConfigError: there is no such head.
    """
    preset = find_preset(model)
    return {
        "stage": "finetune",
        "init": init,
        "init_skip": [*CLASSIFIERS],
        "init_strict": True,
        "strict": strict,
        "seed": seed,
        "run": run,
        "model": {
            "encoder": preset.encoder,
            "drop_path_rate": preset.drop_path_rate,
            "aux": False,
            "lr": preset.lr,
        },
        "head": dict(find_head(head)),
        "data": {
            "batch_size": batch_size,
            "crop": crop,
            "scale": [0.5, 2.0],
            "scale_p": 1.0,
            "photometric": 0.5,
            "cat_max_ratio": 0.75,
            "ignore_border": 0,
            "fraction": 1.0,
            "hold_out": 0.05,
            "num_workers": None,
        },
        "optim": {
            "_target_": "alps.training.Optim",
            "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "fused": True},
            "lr": preset.lr if lr is None else lr,
            "weight_decay": 0.05,
            "layer_decay": 1.0,
            "warmup": 0.02,
            "schedule": "cosine",
            "power": 0.9,
            "min_lr": 0.0,
        },
        "window": {
            "_target_": "alps.prediction.SlidingWindow",
            "crop": None,
            "overlap": 0.5,
            "blend": "gaussian",
            "batch_size": 8,
            "scales": [1.0],
            "flip": False,
        },
        "loss": {
            "_target_": "alps.training.CrossEntropy",
            "label_smoothing": 0.0,
            "class_weights": None,
        },
        "trainer": {
            "_target_": "lightning.pytorch.Trainer",
            "accelerator": device,
            "devices": 1,
            "max_steps": steps,
            "max_epochs": -1,
            "precision": precision,
            "accumulate_grad_batches": 1,
            "gradient_clip_val": None,
            "val_check_interval": None,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
            "enable_model_summary": False,
            "sync_batchnorm": False,
            "benchmark": True,
            "deterministic": False,
        },
    }


def image_settings(images: ImageSet) -> dict[str, Any]:
    """Return the configuration of an image set: its class and arguments under ``dataset``.

    >>> from alps.images import LoveDA
    >>> image_settings(LoveDA(root="data/loveda"))
    {'dataset': {'_target_': 'alps.images.LoveDA', 'root': 'data/loveda', 'name': 'loveda'}}

    Args:
        images: the image set.

    Returns:
        Plain containers; empty if the class is not in `alps.images`, or if its arguments are not
        attributes.
    """
    kind = type(images)
    if getattr(public, kind.__name__, None) is not kind:
        return {}
    settings: dict[str, Any] = {"_target_": f"alps.images.{kind.__name__}"}
    for name in inspect.signature(kind).parameters:
        if not hasattr(images, name):
            return {}
        value = getattr(images, name)
        if isinstance(value, Path):
            value = str(value)
        settings[name] = list(value) if isinstance(value, tuple) else value
    return {"dataset": settings}


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in part of a configuration, without Hydra's keys."""
    return {key: value for key, value in settings.items() if key not in ("_target_", "_partial_")}
