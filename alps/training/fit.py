"""Training of a model on a label store or a labelled set."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from alps.datasets.bands import band_names
from alps.errors import ConfigError
from alps.images.stored import StoredLabels
from alps.models.build import bind_model
from alps.prediction.device import choose_accelerator, choose_precision
from alps.prediction.net import Net
from alps.prediction.sliding import SlidingWindow
from alps.protocols import ImageSet, LabelledSet
from alps.store.label_store import LabelStore
from alps.training.checkpoint import read_checkpoint
from alps.training.load_net import load_net
from alps.training.losses import CrossEntropy
from alps.training.optim import Optim
from alps.training.settings import fit_settings, image_settings, options
from alps.training.train import build_data, train
from alps.training.trainer import build_trainer, default_callbacks


def fit(
    data: LabelStore | ImageSet | str | Path,
    *,
    model: str = "resnet50",
    head: str = "upernet",
    init: str | Path | None = "imagenet",
    steps: int = 20_000,
    batch_size: int = 16,
    crop: int | None = None,
    lr: float | None = None,
    run: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    strict: bool = False,
) -> Net:
    """Train a model like `python train.py stage=finetune`, with the same defaults.

    The folder of the run contains ``last.ckpt``, ``best.ckpt`` (by val/mIoU), ``config.yaml``,
    curves and pictures. A repeated call with the same ``run`` resumes a stopped run, a call with
    more ``steps`` continues it, and the call for a finished run returns its model.

    Args:
        data: a label store or its folder, or a labelled set such as
            ``alps.images.Potsdam(root=...)``.
        model: ``resnet18``, ``resnet50``, ``swin_tiny``, ``convnext_tiny``, ``vit_base``,
            ``efficientnet_lite0``, or the name of any timm encoder.
        head: ``upernet``, ``fpn`` or ``unet``.
        init: ``imagenet``, None for random weights, or the path of a checkpoint, whose classifier
            is not loaded.
        steps: number of optimiser steps.
        batch_size: images per step.
        crop: side of the training crops, a multiple of 32 px; None: 512, or less if the images are
            smaller.
        lr: highest learning rate of AdamW; None: the default of ``model``.
        run: folder of the run; None: a new folder in ``runs/finetune``.
        device: ``cpu``, ``cuda`` or ``auto``.
        precision: ``auto`` (bf16-mixed on GPUs that support it, otherwise 32-true), or a precision
            of Lightning: ``32-true``, ``bf16-mixed``, ...
        seed: random seed; the caller's random state of torch is restored after the call.
        strict: whether inconsistencies of the images and labels are errors.

    Returns:
        The model of ``last.ckpt``; `alps.load_net` loads ``best.ckpt``.

    Raises:
        CheckpointError: ``run`` contains a run with different settings or images, or ``init``
            belongs to a different model.
        ConfigError: a setting is out of range, or ``data`` has no labels.
        DatasetNotFound: there are no images.
        DivergedError: the loss or a weight is not finite.
        LabelError: a label cannot be used, or no pixel is labelled.
        RunStopped: Ctrl-C stopped the run after ``last.ckpt`` was written; a subclass of
            `KeyboardInterrupt`.
        KeyboardInterrupt: a second Ctrl-C stopped the run at once.
    """
    images = _labelled_set(data)
    folder = Path(run or datetime.now().strftime("runs/finetune/%Y-%m-%d_%H-%M-%S-%f"))
    settings = image_settings(images) | fit_settings(
        model=model,
        head=head,
        init=None if init is None else str(init),
        steps=steps,
        batch_size=batch_size,
        crop=crop,
        lr=lr,
        run=str(folder),
        device=device,
        precision=choose_precision(precision, choose_accelerator(device)),
        seed=seed,
        strict=strict,
    )
    last = folder / "last.ckpt"
    if not _is_finished(last, images, settings):
        try:
            _train(images, settings, folder, resume=str(last) if last.exists() else None)
        except SystemExit as stop:  # raised by Lightning on a second Ctrl-C
            raise KeyboardInterrupt(f"stopped at once, without writing {last}") from stop
    return load_net(last, device=device, precision=precision)


def _labelled_set(data: LabelStore | ImageSet | str | Path) -> LabelledSet:
    """Return the images and labels to train on.

    Raises:
        ConfigError: the images have no labels.
    """
    if isinstance(data, LabelStore):
        return StoredLabels(root=str(data.root))
    if isinstance(data, str | Path):
        return StoredLabels(root=str(data))
    if not hasattr(data, "read_target"):
        raise ConfigError(
            f"{type(data).__name__} has no labels to train on, expected a label store or a "
            "labelled set such as alps.images.Potsdam; alps.label makes a store from images"
        )
    return cast(LabelledSet, data)


def _is_finished(last: Path, images: LabelledSet, settings: Mapping[str, Any]) -> bool:
    """Return whether ``last.ckpt`` exists and its run is complete.

    Raises:
        CheckpointError: its run had different settings, bands or images.
    """
    if not last.exists():
        return False
    saved = read_checkpoint(last)
    saved.check_settings(settings)
    saved.check_bands(band_names(images), images.name)
    data = build_data({"": images}, settings["data"], settings["seed"])
    saved.check_data({"": data.parts[0].fingerprint})
    return saved.step == settings["trainer"]["max_steps"] and not saved.validation_due


def _train(
    images: LabelledSet, settings: Mapping[str, Any], folder: Path, resume: str | None
) -> None:
    """Train with the given settings, without changing the caller's random state of torch."""
    optim, trainer = options(settings["optim"]), options(settings["trainer"])
    accelerator = choose_accelerator(trainer.pop("accelerator"))
    precision = trainer.pop("precision")
    optimizer = partial(torch.optim.AdamW, **options(optim.pop("optimizer")))
    # Only torch is seeded; all other random numbers come from separate generators.
    with torch.random.fork_rng(devices=[] if accelerator == "cpu" else [0]):
        torch.manual_seed(settings["seed"])
        train(
            {"": images},
            model=bind_model(settings["model"], settings["head"]),
            loss=partial(CrossEntropy, **options(settings["loss"])),
            optim=Optim(optimizer=optimizer, **optim),
            window=SlidingWindow,
            trainer=partial(
                build_trainer,
                partial(Trainer, **trainer),
                run=folder,
                callbacks=default_callbacks(folder),
                logger=CSVLogger(folder, name="csv"),
                accelerator=accelerator,
                precision=precision,
            ),
            data=settings["data"],
            settings=settings,
            run=folder,
            max_steps=trainer["max_steps"],
            init=settings["init"],
            init_skip=settings["init_skip"],
            strict=settings["strict"],
            seed=settings["seed"],
            resume=resume,
        )
