"""Checks of a label.py configuration that run before any slow import."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from alps.assign.limits import NO_FEATURES, SEED, check_ks
from alps.cli.limits import check_classes, check_node
from alps.cli.program import CONF, to_dict
from alps.cli.secret_settings import refuse_secrets
from alps.errors import ConfigError
from alps.store.limits import STORE
from alps.structures.settings import Choice, Flag, Limits

#: Settings of label.py itself.
SETTINGS: Limits = {
    "seed": SEED,
    "overwrite": Choice((None, "masks", "features", "assign", "failed")),
    "verify": Choice((True, False, "images")),
    "evaluate": Flag(),
    "strict": Flag(),
    **STORE,
}


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
        raise ConfigError(
            "label.py takes one dataset per run; -m +dataset=a,b labels them one after the other"
        )
    if is_store(cfg.dataset):
        raise ConfigError(
            f"dataset={choice} is a label store, which label.py writes and train.py reads; "
            f"choose images: +dataset={'|'.join(datasets)}"
        )
    if missing := sorted(_missing_keys(cfg)):
        raise ConfigError(" and ".join(f"{key}=..." for key in missing) + " must be given")
    check_node(SETTINGS, "", cfg)
    check_classes(cfg)
    check_stages(cfg)
    if cfg.verify and cfg.overwrite:
        what = str(cfg.verify).lower()
        raise ConfigError(
            f"verify={what} keeps intact files, but overwrite=... does not: choose one"
        )
    if cfg.evaluate and not has_ground_truth(cfg.dataset):
        names = [name for name, dataset in datasets.items() if has_ground_truth(dataset)]
        raise ConfigError(
            f"evaluate=true compares with the ground truth, but dataset={choice} has none; "
            f"expected +dataset={'|'.join(names)}, or omit evaluate"
        )


def _missing_keys(cfg: DictConfig) -> set[str]:
    """Return the keys of the dataset and of the stages that have no value."""
    parts = (cfg.dataset, cfg.masks, cfg.features, cfg.assign)
    return {key for part in parts if part is not None for key in OmegaConf.missing_keys(part)}


def check_stages(cfg: DictConfig) -> None:
    """Raise `ConfigError` if masks, features and assigner do not match."""
    masks, assign = (cfg[stage].get("_target_") for stage in ("masks", "assign"))
    if assign == "alps.assign.Cluster" and cfg.features is None:
        raise ConfigError(NO_FEATURES)
    if assign == "alps.assign.ByCategory" and masks == "alps.masks.AutoMasks":
        raise ConfigError(
            "assign=category uses the categories of boxes, but masks=auto has none; choose "
            "masks=box, or assign=cluster"
        )
    if cfg.choose_k is not None:
        clusters = {name: cfg.assign.get(name) for name in ("k", "merge")}
        check_ks(str(assign), to_dict(cfg, resolve=False)["choose_k"], **clusters)


def is_store(dataset: Any) -> bool:
    """Return whether a dataset is a label store."""
    return str(dataset.get("_target_")).endswith(".StoredLabels")


def has_ground_truth(dataset: Any) -> bool:
    """Return whether a dataset has ground truth: a class per pixel, or a mask per box."""
    return hasattr(get_class(dataset._target_), "read_target") or compares_boxes(dataset)


def compares_boxes(dataset: Any) -> bool:
    """Return whether a dataset may have a ground-truth mask per box."""
    return hasattr(get_class(dataset._target_), "read_instances")
