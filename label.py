"""Label images: `python label.py +dataset=samrs`; `python label.py --help` says more."""

import os
from pathlib import Path

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and one_line_errors explains

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.errors import ConfigError, one_line_errors

#: Not part of what was labelled: where the store lies, and what this run was asked to redo.
LOCAL_KEYS = ("store", "paths", "overwrite")


CONFIG_ERRORS = (HydraException, OmegaConfBaseException)
INTERRUPTED = "finished shards are kept, the same command resumes"


@hydra.main(version_base="1.3", config_path="conf", config_name="label")
def main(cfg: DictConfig) -> None:
    """Compose, build, label."""
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED):
        check(cfg)
        run(cfg)


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be meant, before anything slow is imported."""
    files = sorted(Path(__file__).with_name("conf").glob("dataset/*.yaml"))
    datasets = "|".join(file.stem for file in files if not is_store(OmegaConf.load(file)))
    if OmegaConf.is_missing(cfg, "dataset"):
        raise ConfigError(f"label.py needs a dataset: +dataset={datasets}")
    choice = HydraConfig.get().runtime.choices.get("dataset")
    if not isinstance(choice, str):
        raise ConfigError("label.py takes one dataset a run; -m +dataset=a,b labels one by one")
    if is_store(cfg.dataset):
        raise ConfigError(
            f"dataset={choice} is a label store: label.py makes them and train.py learns from "
            f"them; label images, +dataset={datasets}"
        )
    if missing := sorted(OmegaConf.missing_keys(cfg.dataset)):
        raise ConfigError(" and ".join(f"{key}=..." for key in missing) + " must be given")
    if cfg.overwrite not in (None, "masks", "features", "assign"):
        raise ConfigError(f"overwrite={cfg.overwrite}: choose masks, features or assign")


def is_store(dataset: DictConfig) -> bool:
    """Whether a dataset is what label.py writes, not what it reads."""
    return str(dataset.get("_target_")).endswith(".StoredLabels")


def run(cfg: DictConfig) -> None:
    """Build what the configuration names, and label."""
    from alps.labelling import label  # torch takes seconds
    from alps.summary import print_summary

    root = Path(cfg.store)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        root = Path(HydraConfig.get().runtime.output_dir) / cfg.name
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    config = OmegaConf.masked_copy(resolved, [key for key in resolved if key not in LOCAL_KEYS])
    store, timings = label(
        image_set=instantiate(cfg.dataset),
        masks=instantiate(cfg.masks),
        features=instantiate(cfg.features),
        assign=instantiate(cfg.assign),
        engine=instantiate(cfg.engine),
        root=root,
        name=cfg.name,
        config=OmegaConf.to_yaml(config),
        shard_size=cfg.shard_size,
        overwrite=cfg.overwrite,
    )
    print_summary(store, timings)


if __name__ == "__main__":
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED):
        main()
