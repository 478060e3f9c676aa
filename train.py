"""Learn and predict: `python train.py stage=pretrain`; `python train.py --help` says more."""

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and one_line_errors explains

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.errors import CheckpointError, ConfigError, one_line_errors

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)
CONF = Path(__file__).resolve().with_name("conf")
#: Image sets that hold no labels: label.py makes a store of them.
UNLABELLED = ("folder", "sample", "samrs")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Compose, build, run; the score goes to Hydra's sweepers."""
    with one_line_errors(*CONFIG_ERRORS):
        check(cfg)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            cfg.run = HydraConfig.get().runtime.output_dir
        elif cfg.resume is not None:
            cfg.run = str(Path(cfg.resume).parent)
        cfg.run = str(cfg.run)  # the time in it is told once
        stages: dict[str, Callable[[DictConfig], float | None]]
        stages = {"pretrain": fit, "finetune": fit, "test": test, "predict": predict}
        return stages[cfg.stage](cfg)
    return None


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be meant, before anything slow is imported."""
    if OmegaConf.is_missing(cfg, "stage"):
        raise ConfigError("train.py needs a stage: stage=pretrain|finetune|test|predict")
    names = {path.stem for path in CONF.glob("dataset/*.yaml")}
    labelled = "|".join(sorted(names.difference(UNLABELLED)))
    choice = HydraConfig.get().runtime.choices.get("dataset")
    if choice is None and "dataset" in cfg:  # of [a,b] Hydra merges the keys
        raise ConfigError("train.py takes one dataset a run; -m dataset=a,b trains on one by one")
    if choice in UNLABELLED:
        raise ConfigError(
            f"dataset={choice} has no labels to learn from; make a store of it "
            f"(python label.py +dataset={choice}) and give that: dataset=store dataset.root=STORE"
        )
    if "dataset" not in cfg and cfg.stage in ("pretrain", "finetune"):
        raise ConfigError(f"stage={cfg.stage} needs a dataset: dataset={labelled}")
    if OmegaConf.is_missing(cfg, "init"):
        raise ConfigError("stage=finetune needs init=null (random), init=imagenet or init=FILE")
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(" and ".join(f"{key}=..." for key in missing) + " must be given")


def fit(cfg: DictConfig) -> float:
    """Learn: stage=pretrain and stage=finetune."""
    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from alps.models.init import load_init
    from alps.training.data import SegmentationData
    from alps.training.runs import fit as run_fit
    from alps.training.task import SegmentationTask

    seed_everything(cfg.seed, workers=True, verbose=False)
    images = instantiate(cfg.dataset)
    categories = images.categories()
    data = SegmentationData(images, **cfg.data, seed=cfg.seed)
    model = build_model(cfg, len(categories))
    report = load_init(model, cfg.init, skip=cfg.init_skip, strict=cfg.init_strict)
    rank_zero_only(print)(report, flush=True)  # what a user looks for first
    if cfg.compile:
        model.compile()
    resolved = OmegaConf.to_container(cfg, resolve=True)
    task = SegmentationTask(
        model=model,
        categories=categories,
        ignore_index=images.ignore_index,
        protocol=images.protocol,
        window=instantiate(cfg.window, crop=cfg.window.crop or data.crop),
        loss=instantiate(cfg.loss, ignore_index=images.ignore_index),
        optim=instantiate(cfg.optim),
        config=OmegaConf.to_yaml(OmegaConf.create(resolved)),
    )
    return run_fit(
        task, data, build_trainer(cfg), run=Path(cfg.run), config=resolved, resume=cfg.resume
    )


def test(cfg: DictConfig) -> float:
    """Score a checkpoint: stage=test."""
    from alps.training.data import SegmentationData
    from alps.training.runs import test as run_test
    from alps.training.task import SegmentationTask

    saved, trained, model = restore(cfg.ckpt)
    images = instantiate(cfg.dataset if "dataset" in cfg else trusted(trained.dataset))
    if len(images.categories()) != len(saved.categories):
        raise CheckpointError(
            f"{saved.path} knows {len(saved.categories)} classes ({saved.protocol}), "
            f"{images.name} has {len(images.categories())}; test it on a dataset of its classes"
        )
    data = SegmentationData(images, **{**cfg.data, "crop": saved.crop}, seed=cfg.seed)
    task = SegmentationTask(
        model=model,
        categories=images.categories(),
        ignore_index=images.ignore_index,
        protocol=images.protocol,
        window=instantiate(cfg.window, crop=cfg.window.crop or saved.crop),
    )
    return run_test(task, data, build_trainer(cfg))


def predict(cfg: DictConfig) -> None:
    """Index maps of images: stage=predict."""
    from lightning.fabric import Fabric

    from alps.training.runs import predict as run_predict

    saved, _, model = restore(cfg.ckpt)
    run_predict(
        model,
        window=instantiate(cfg.window, crop=cfg.window.crop or saved.crop),
        categories=saved.categories,
        fabric=Fabric(
            accelerator=cfg.trainer.accelerator, devices=1, precision=cfg.trainer.precision
        ),
        source=cfg.input,
        target=cfg.output,
    )


def build_model(cfg: DictConfig, num_classes: int) -> Any:
    """The net a configuration describes, with random weights."""
    from alps.encoders import Encoder
    from alps.models.heads.fcn import FCN
    from alps.models.segmentation import SegmentationModel

    encoder = Encoder(
        cfg.model.encoder,
        in_channels=cfg.model.in_channels,
        drop_path_rate=cfg.model.drop_path_rate,
    )
    head = instantiate(cfg.head)(encoder.channels)
    aux_head = FCN(encoder.channels) if cfg.model.aux else None
    return SegmentationModel(encoder, head, num_classes=num_classes, aux_head=aux_head)


def build_trainer(cfg: DictConfig) -> Any:
    """Lightning's Trainer with the run's callbacks and logger."""
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor

    from alps.training.runs import validation_interval

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # else they advertise
    logger = instantiate(cfg.logger) or False
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values()]
    if not logger:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    interval = validation_interval(cfg.trainer.max_steps, cfg.trainer.val_check_interval)
    on_cpu = cfg.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    return instantiate(
        cfg.trainer,
        # On CPUs there is no synchronised batch norm.
        sync_batchnorm=cfg.trainer.sync_batchnorm and not on_cpu,
        val_check_interval=interval * cfg.trainer.accumulate_grad_batches,
        log_every_n_steps=min(interval, cfg.trainer.log_every_n_steps),
        default_root_dir=cfg.run,
        logger=logger,
        callbacks=callbacks,
    )


def restore(ckpt: str) -> tuple[Any, DictConfig, Any]:
    """A checkpoint, the configuration of the run that wrote it, and its net."""
    from alps.training.checkpoint import read_checkpoint

    saved = read_checkpoint(ckpt)
    trained = OmegaConf.create(saved.config)
    trusted(trained.head)
    model = build_model(trained, len(saved.categories))
    saved.load_into(model)
    return saved, trained, model


def trusted(node: Any) -> Any:
    """A part of a checkpoint's configuration, if all it builds are classes of ALPS.

    A checkpoint may come from anywhere, and ``_target_`` can name any function.
    """
    targets = re.findall(r"_target_: *(\S+)", OmegaConf.to_yaml(node))
    if foreign := [target for target in targets if not target.startswith("alps.")]:
        raise CheckpointError(
            f"the checkpoint's configuration would call {foreign[0]}, expected classes of alps "
            "alone; do not use it unless you know who made it"
        )
    return node


if __name__ == "__main__":
    with one_line_errors(*CONFIG_ERRORS):
        main()
