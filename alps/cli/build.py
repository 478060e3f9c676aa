"""Construction of the model, the window and the trainer from a configuration of train.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig


def build_model(
    cfg: DictConfig,
    num_classes: int | Mapping[str, int],
    band_names: Sequence[str] | None = None,
) -> Any:
    """Return the model of a configuration with random weights.

    Args:
        cfg: the configuration.
        num_classes: number of classes, or number of classes by dataset name.
        band_names: names of the image channels; None: RGB.

    Raises:
        ConfigError: the settings of the encoder or the head are invalid.
    """
    from alps.models.build import build_model

    return build_model(
        encoder=cfg.model.encoder,
        head=instantiate(cfg.head),
        num_classes=num_classes,
        band_names=band_names,
        drop_path_rate=cfg.model.drop_path_rate,
        aux=cfg.model.aux,
    )


def build_window(cfg: DictConfig, crop: int) -> Any:
    """Build the sliding window, by default with a side of ``crop`` pixels."""
    return instantiate(cfg.window, crop=crop if cfg.window.crop is None else cfg.window.crop)


def build_trainer(cfg: DictConfig, interval: int = 1) -> Any:
    """Return Lightning's trainer with the callbacks and logger of a run.

    Args:
        cfg: the configuration.
        interval: number of steps between two validations.
    """
    from alps.training.trainer import build_trainer

    return build_trainer(
        instantiate(cfg.trainer, _partial_=True),
        run=cfg.run,
        callbacks=[instantiate(callback) for callback in cfg.callbacks.values()],
        logger=instantiate(cfg.logger) or None,
        accelerator=cfg.trainer.accelerator,
        precision=cfg.trainer.precision,
        interval=interval,
        accumulate_grad_batches=cfg.trainer.accumulate_grad_batches,
        log_every_n_steps=cfg.trainer.log_every_n_steps,
        sync_batchnorm=cfg.trainer.sync_batchnorm,
    )
