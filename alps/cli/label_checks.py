"""Checks of a label.py configuration that run before any slow import."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from alps.cli.program import CONF, to_dict
from alps.cli.secret_settings import refuse_secrets
from alps.errors import ConfigError


def check(cfg: DictConfig) -> None:
    """Check a configuration of label.py.

    Raises:
        ConfigError: the configuration is incomplete or contradictory.
    """
    refuse_secrets(to_dict(cfg, resolve=False))
    files = sorted(CONF.glob("dataset/*.yaml"))
    datasets = {file.stem: OmegaConf.load(file) for file in files}
    datasets = {name: dataset for name, dataset in datasets.items() if not is_store(dataset)}
    if OmegaConf.is_missing(cfg, "dataset"):
        raise ConfigError(f"label.py needs a dataset: +dataset={'|'.join(datasets)}")
    choice = HydraConfig.get().runtime.choices.get("dataset")
    if not isinstance(choice, str):
        raise ConfigError("label.py takes one dataset a run; -m +dataset=a,b labels one by one")
    if is_store(cfg.dataset):
        raise ConfigError(
            f"dataset={choice} is a label store: label.py makes them and train.py learns from "
            f"them; label images, +dataset={'|'.join(datasets)}"
        )
    if missing := sorted(OmegaConf.missing_keys(cfg.dataset)):
        raise ConfigError(" and ".join(f"{key}=..." for key in missing) + " must be given")
    if cfg.overwrite not in (None, "masks", "features", "assign", "failed"):
        raise ConfigError(f"overwrite={cfg.overwrite}: choose masks, features, assign or failed")
    for key in ("evaluate", "strict"):
        if cfg[key] not in (True, False):
            raise ConfigError(f"{key}={cfg[key]}: expected true or false")
    if cfg.verify not in (True, False, "images"):
        raise ConfigError(f"verify={cfg.verify}: expected true, false or images")
    if cfg.verify and cfg.overwrite:
        what = str(cfg.verify).lower()
        raise ConfigError(f"verify={what} keeps what is sound, overwrite=... does not: choose one")
    if cfg.evaluate and not has_truth(cfg.dataset):
        known = [name for name, dataset in datasets.items() if has_truth(dataset)]
        raise ConfigError(
            f"evaluate=true compares with the ground truth, and dataset={choice} has none; "
            f"expected +dataset={'|'.join(known)}; or label without evaluate"
        )


def is_store(dataset: Any) -> bool:
    """Return whether a dataset is a label store, which label.py writes and cannot read."""
    return str(dataset.get("_target_")).endswith(".StoredLabels")


def has_truth(dataset: Any) -> bool:
    """Return whether a dataset has ground truth: a class per pixel, or a mask per box."""
    return hasattr(get_class(dataset._target_), "read_target") or compares_boxes(dataset)


def compares_boxes(dataset: Any) -> bool:
    """Return whether a dataset may have a ground-truth mask per box."""
    return hasattr(get_class(dataset._target_), "read_instances")
