"""Checks of a train.py configuration that run before any slow import."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from alps.cli.limits import check_classes, check_node
from alps.cli.program import CONF, to_dict
from alps.cli.secret_settings import refuse_secrets
from alps.datasets.limits import DATA
from alps.errors import ConfigError
from alps.prediction.limits import FILES
from alps.structures.settings import Choice, Flag, Limits, Number

COUNT = Number(at_least=1, integer=True)
COUNT_OR_NULL = Number(at_least=1, integer=True, also=(None,))
NOT_NEGATIVE = Number(at_least=0, integer=True)
#: Settings of train.py, and settings of Lightning's trainer that Lightning does not check.
SETTINGS: Limits = {
    "seed": NOT_NEGATIVE,
    "strict": Flag(),
    "init_strict": Flag(),
    "compile": Flag(),
}
EXPORT: Limits = {"to": Choice(("mmseg", "encoder"))}
TRAINER: Limits = {
    "max_steps": NOT_NEGATIVE,
    "max_epochs": Number(at_least=-1, integer=True, also=(None,)),
    "accumulate_grad_batches": COUNT,
    "val_check_interval": COUNT_OR_NULL,
    "check_val_every_n_epoch": COUNT_OR_NULL,
    "num_sanity_val_steps": Number(at_least=-1, integer=True),
    "log_every_n_steps": NOT_NEGATIVE,
    "num_nodes": COUNT_OR_NULL,
    "gradient_clip_val": Number(at_least=0, also=(None,)),
}

#: Datasets without labels, which label.py can label.
UNLABELLED = (
    *("folder", "rasters", "sample", "samrs"),
    *("bovtext", "coco", "dior", "dota", "dstext", "fair1m", "hrsc2016"),
    *("icdar2015_video", "nifti", "samrs_boxes", "table", "video", "voc"),
)


def check(cfg: DictConfig) -> None:
    """Check a configuration of train.py.

    Raises:
        ConfigError: the configuration is incomplete or contradictory.
    """
    refuse_secrets(to_dict(cfg, resolve=False))
    if OmegaConf.is_missing(cfg, "stage"):
        raise ConfigError("train.py needs a stage: stage=pretrain|finetune|test|predict|export")
    names = {path.stem for path in CONF.glob("dataset/*.yaml")}
    labelled = "|".join(sorted(names.difference(UNLABELLED)))
    overrides = list(HydraConfig.get().overrides.task)
    chosen = HydraConfig.get().runtime.choices
    trains = cfg.stage in ("pretrain", "finetune")
    if any(
        override.startswith("dataset=[") for override in overrides
    ):  # Hydra would merge the keys of the datasets
        raise ConfigError(
            "dataset= takes one dataset; train on several with +dataset@datasets.a=NAME "
            "+dataset@datasets.b=NAME, or on one after the other with -m dataset=a,b"
        )
    for key, choice in chosen.items():
        if key.partition("@")[0] == "dataset" and choice in UNLABELLED:
            raise ConfigError(
                f"{key}={choice} has no labels to train on; label it with python label.py "
                f"+dataset={choice}, then set {key}=store and its root to the folder of the store"
            )
    if "datasets" in cfg:
        check_datasets(cfg, overrides)
    if trains and "dataset" not in cfg and "datasets" not in cfg:
        raise ConfigError(f"stage={cfg.stage} needs a dataset: dataset={labelled}")
    if trains and OmegaConf.is_missing(cfg, "init") and cfg.resume is None:
        raise ConfigError("stage=finetune needs init=null (random), init=imagenet or init=FILE")
    if missing := sorted(OmegaConf.missing_keys(cfg) - {"init"}):
        raise ConfigError(" and ".join(f"{key}=..." for key in missing) + " must be given")
    for override in overrides:
        if not trains and override.partition("=")[0].partition(".")[0] in (
            "model",
            "head",
            "resume",
        ):
            raise ConfigError(
                f"{override}: stage={cfg.stage} uses the model of ckpt={cfg.ckpt}; omit {override}"
            )
    if not isinstance(cfg.resume, str | None):
        raise ConfigError(f"resume={cfg.resume}: expected null or the path of a last.ckpt")
    check_values(cfg)


def check_values(cfg: DictConfig) -> None:
    """Check the settings that have limits; raise `ConfigError` if one is invalid."""
    check_node(SETTINGS, "", cfg)
    check_node(TRAINER, "trainer", cfg.trainer)
    check_node(DATA, "data", cfg.data)
    if cfg.stage == "predict":
        check_node(FILES, "predict", cfg.predict)
    if cfg.stage == "export":
        check_node(EXPORT, "export", cfg.export)
    check_classes(cfg, filled_in=("window.crop",))


def check_datasets(cfg: DictConfig, overrides: list[str]) -> None:
    """Check a configuration with several datasets, and remove the default dataset of the stage.

    Raises:
        ConfigError: the settings are contradictory, or the stage takes a single dataset.
    """
    if cfg.stage not in ("pretrain", "finetune"):
        raise ConfigError(
            f"stage={cfg.stage} takes one dataset: dataset=NAME, and classifier=NAME if the model "
            "was trained on several"
        )
    if any(override.startswith(("dataset=", "dataset.")) for override in overrides):
        raise ConfigError("set either dataset or datasets, not both")
    if cfg.loss.class_weights is not None:
        raise ConfigError("loss.class_weights belong to one dataset; with several, set null")
    choice = HydraConfig.get().runtime.choices.get("dataset")
    if choice not in (None, stage_dataset(cfg.stage)):
        raise ConfigError(
            f"an experiment sets dataset={choice}, which would be ignored because of datasets."
            f"{' and datasets.'.join(cfg.datasets)}; remove it with ~dataset, or train on it "
            f"too with +dataset@datasets.{choice}={choice}"
        )
    with open_dict(cfg):
        cfg.pop("dataset", None)


def stage_dataset(stage: str) -> str | None:
    """Return the name of a stage's default dataset, or None."""
    for entry in OmegaConf.select(OmegaConf.load(CONF / f"stage/{stage}.yaml"), "defaults") or ():
        if "override /dataset" in entry:
            return str(entry["override /dataset"])
    return None
