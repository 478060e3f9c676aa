"""Build the data, net and trainer that a configuration of train.py describes."""

from __future__ import annotations

import logging
import re
from importlib import import_module
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.errors import CheckpointError, ConfigError


def build_data(cfg: DictConfig, sets: dict[str, Any]) -> tuple[list[Any], Any]:
    """Build the subjects and the data module of a run.

    Args:
        cfg: the configuration.
        sets: labelled sets by name; the only set has an empty name.

    Returns:
        The subjects, one per set, and the data module.

    Raises:
        ConfigError: ``loss.class_weights`` has another length than the classes.
    """
    from alps.training.data import SegmentationData
    from alps.training.joint import JointData
    from alps.training.subject import Subject

    weights = cfg.loss.class_weights
    subjects = []
    for name, images in sets.items():
        classes = len(images.categories())
        loss = instantiate(cfg.loss, ignore_index=images.ignore_index)
        if weights is not None and len(weights) != classes:
            raise ConfigError(
                f"loss.class_weights has {len(weights)} numbers, {images.name} has {classes} "
                "classes"
            )
        subjects.append(Subject.of(images, name, loss=loss))
    if "" in sets:
        return subjects, SegmentationData(sets[""], **cfg.data, seed=cfg.seed)
    return subjects, JointData(sets, **cfg.data, seed=cfg.seed)


def build_model(cfg: DictConfig, num_classes: int | dict[str, int]) -> Any:
    """Build the net that a configuration describes, with random weights.

    Args:
        cfg: the configuration.
        num_classes: number of classes, or numbers of classes per dataset name.

    Raises:
        ConfigError: the settings of the encoder or the head are invalid.
    """
    from alps.models.heads.fcn import FCN
    from alps.models.segmentation import SegmentationModel
    from alps.pretrained.encoder import Encoder

    try:
        encoder = Encoder(cfg.model.encoder, drop_path_rate=cfg.model.drop_path_rate)
        head = instantiate(cfg.head)(encoder.channels)
        aux_head = FCN(encoder.channels) if cfg.model.aux else None
        return SegmentationModel(encoder, head, num_classes=num_classes, aux_head=aux_head)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"no net can be built with model={dict(cfg.model)} and head={dict(cfg.head)}: {error}"
        ) from error


def build_window(cfg: DictConfig, crop: int) -> Any:
    """Build the sliding window, with a default side of ``crop`` pixels."""
    return instantiate(cfg.window, crop=crop if cfg.window.crop is None else cfg.window.crop)


def build_trainer(cfg: DictConfig, interval: int = 1) -> Any:
    """Build Lightning's trainer with the callbacks and logger of a run.

    Args:
        cfg: the configuration.
        interval: number of steps between two validations.
    """
    from lightning.pytorch.callbacks import LearningRateMonitor

    from alps.training.runs import choose_accelerator
    from alps.training.sync_norm import SyncBatchNorm

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below it they log advertisements
    accelerator = choose_accelerator(cfg.trainer.accelerator)
    logger = instantiate(cfg.logger) or False
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values()]
    if not logger:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    # Synchronised batch norm is not available on CPUs.
    synchronised = cfg.trainer.sync_batchnorm and accelerator != "cpu"
    return instantiate(
        cfg.trainer,
        accelerator=accelerator,
        sync_batchnorm=False,  # torch's conversion drops activations of timm's nets
        plugins=[SyncBatchNorm()] if synchronised else None,
        val_check_interval=interval * cfg.trainer.accumulate_grad_batches,
        log_every_n_steps=min(interval, cfg.trainer.log_every_n_steps),
        default_root_dir=cfg.run,
        logger=logger,
        callbacks=callbacks,
    )


def restore(
    ckpt: str, classifier: str | None, dataset: str | None = None
) -> tuple[Any, DictConfig, Any]:
    """Read a checkpoint and build its net.

    For a net that was trained on several datasets, only one classifier is restored.

    Args:
        ckpt: path of the checkpoint.
        classifier: name of the dataset whose classifier is restored; None if the net was trained
            on one dataset.
        dataset: name used instead of a missing ``classifier`` if the net was trained on a dataset
            of that name.

    Returns:
        The checkpoint, the configuration of the run that wrote it, and the net.

    Raises:
        CheckpointError: the checkpoint cannot be read or has no such classifier.
    """
    from alps.training.checkpoint import read_checkpoint

    saved = read_checkpoint(ckpt)
    if classifier is None and dataset in saved.datasets:
        classifier = dataset
    saved = saved.choose(classifier)
    trained = OmegaConf.create(saved.config)
    assert isinstance(trained, DictConfig)
    assert isinstance(trained, DictConfig)
    try:
        trusted(trained.head, "alps.models.heads")
        model = build_model(trained, len(saved.categories))
    except OmegaConfBaseException as error:
        raise CheckpointError(
            f"{ckpt}, written by ALPS {saved.version}, has a configuration that this ALPS does not "
            f"read: {error}; use that version"
        ) from error
    saved.load_into(model)
    return saved, trained, model


def trusted(node: Any, package: str) -> Any:
    """Return part of a checkpoint's configuration after checking that it builds only safe classes.

    A checkpoint may come from an untrusted source, and ``_target_`` can name any function.

    Args:
        node: part of the configuration.
        package: package whose public classes may be built, such as ``alps.images``.

    Raises:
        CheckpointError: the configuration would call something outside the package.
    """
    public = {f"{package}.{name}" for name in import_module(package).__all__}
    for target in re.findall(r"_target_: *(\S+)", OmegaConf.to_yaml(node)):
        if target not in public:
            raise CheckpointError(
                f"the checkpoint's configuration would call {target}, expected a class of "
                f"{package}; do not use it unless you know who made it"
            )
    return node
