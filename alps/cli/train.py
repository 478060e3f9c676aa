"""Train, test, predict and export; see `python train.py --help`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from alps.cli.build import build_model, build_trainer, build_window
from alps.cli.program import (
    CONF,
    CONFIG_ERRORS,
    build_image_set,
    rename_old_targets,
    start_program,
    to_dict,
)
from alps.cli.secret_settings import refuse_secrets
from alps.cli.train_checks import check
from alps.errors import CheckpointError, ConfigError, one_line_errors

if TYPE_CHECKING:
    from alps.training.checkpoint import Checkpoint

INTERRUPTED = "no training step was completed"
#: Loggers whose messages only the first process prints, because they are equal in all processes.
RANK_ZERO_LOGGERS = (
    *("alps.images", "alps.datasets.bands", "alps.datasets.subset"),
    "alps.structures.findings",
)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Check the configuration and run its stage; return the score, which sweepers use."""
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED):
        rename_old_targets(cfg)
        check(cfg)
        if cfg.resume is None and (folder := job_folder(cfg)) is not None:
            cfg.resume = newest_checkpoint(folder)
        cfg.run = run_folder(cfg)
        stages: dict[str, Callable[[DictConfig], float | None]]
        stages = {"pretrain": fit, "finetune": fit, "test": test, "predict": predict}
        stages |= {"export": export}
        return stages[cfg.stage](cfg)


def run_folder(cfg: DictConfig) -> str:
    """Return the folder of a run; a resumed run writes to the folder of its checkpoint.

    Raises:
        ConfigError: a different folder is requested for a resumed run.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return str(HydraConfig.get().runtime.output_dir)
    if cfg.resume is not None:
        if sets_run() and Path(cfg.run).resolve() != Path(cfg.resume).resolve().parent:
            raise ConfigError(
                f"run={cfg.run}: a resumed run writes to the folder of its checkpoint; omit run="
            )
        return str(Path(cfg.resume).parent)
    return str(job_folder(cfg) or cfg.run)  # str resolves the time in the path once


def job_folder(cfg: DictConfig) -> Path | None:
    """Return the folder of a SLURM job, which requeueing keeps; None outside SLURM."""
    hydra_cfg = HydraConfig.get()
    job = os.environ.get("SLURM_JOB_ID")
    on_slurm = job and hydra_cfg.runtime.choices.get("trainer") == "slurm"
    is_trial = hydra_cfg.mode == RunMode.MULTIRUN  # a trial has a separate folder
    if not on_slurm or sets_run() or is_trial:
        return None
    return Path(cfg.paths.runs, cfg.name, str(job))


def sets_run() -> bool:
    """Return whether the command line sets the folder of the run."""
    return any(arg.startswith("run=") for arg in HydraConfig.get().overrides.task)


def newest_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint of a folder, or None if it has none.

    A requeued job, whose command line does not change, resumes from it. After SLURM's warning,
    Lightning writes ``hpc_ckpt_1.ckpt`` and so on.
    """
    paths = [*folder.glob("hpc_ckpt_*.ckpt"), *folder.glob("last.ckpt")]
    return str(max(paths, key=lambda path: path.stat().st_mtime_ns)) if paths else None


def fit(cfg: DictConfig) -> float:
    """Train a model (stage=pretrain and stage=finetune) and return its last val/mIoU."""
    nodes = {"": cfg.dataset} if "dataset" in cfg else cfg.datasets
    sets = {name: build_image_set(node) for name, node in nodes.items()}

    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from alps.prediction.device import choose_accelerator, choose_precision
    from alps.training.runs import RunStopped
    from alps.training.train import train

    if getattr(rank_zero_only, "rank", 0):
        for name in RANK_ZERO_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
    # The checkpoint names the precision that was used.
    accelerator = choose_accelerator(cfg.trainer.accelerator)
    cfg.trainer.precision = choose_precision(cfg.trainer.precision, accelerator)
    seed_everything(cfg.seed, workers=True, verbose=False)
    settings = to_dict(cfg)
    refuse_secrets(settings)  # also secrets that result from interpolations
    try:
        return train(
            sets,
            model=partial(build_model, cfg),
            loss=instantiate(cfg.loss, _partial_=True),
            optim=instantiate(cfg.optim),
            window=partial(build_window, cfg),
            trainer=partial(build_trainer, cfg),
            data=settings["data"],
            settings=settings,
            run=Path(cfg.run),
            max_steps=cfg.trainer.max_steps,
            val_check_interval=cfg.trainer.val_check_interval,
            init=cfg.init if cfg.resume is None else None,  # a resumed run may lack init
            init_skip=cfg.init_skip,
            init_strict=cfg.init_strict,
            strict=cfg.strict,
            compile=cfg.compile,
            seed=cfg.seed,
            resume=cfg.resume,
        )
    except RunStopped as stop:
        if stop.rank:  # rank 0 would take a non-zero status for a failure
            sys.exit()
        sys.stderr.write(
            f"\nstopped after step {stop.step}; repeat the command with "
            f"resume={stop.checkpoint} to continue\n"
        )
        sys.exit(stop.status)


def test(cfg: DictConfig) -> float:
    """Score a checkpoint (stage=test) and return test/mIoU."""
    from alps.cli.trained_view import warn_of_other_view, with_trained_view
    from alps.datasets.bands import band_names
    from alps.training.data import SegmentationData
    from alps.training.load_net import restore
    from alps.training.runs import test as run_test
    from alps.training.subject import Subject
    from alps.training.task import SegmentationTask

    choice = HydraConfig.get().runtime.choices.get("dataset")
    saved, model = restore(cfg.ckpt, cfg.classifier, choice)
    dataset = cfg.dataset if choice is not None else trained_dataset(cfg, saved)
    images = instantiate(with_trained_view(dataset, saved.view))
    warn_of_other_view(images, saved.view)
    names = [category.name for category in images.categories()]
    if (trained := [category.name for category in saved.categories]) != names:
        raise CheckpointError(
            f"{saved.path} was trained on the classes {', '.join(trained)} ({saved.protocol}), "
            f"but {images.name} has {', '.join(names)}; choose a dataset with the trained classes"
        )
    saved.check_bands(band_names(images), images.name)
    # Hold out the same images as in training; scoring needs no crop.
    held_out = {"crop": None, "fraction": 1.0, "hold_out": saved.settings["data"]["hold_out"]}
    data = SegmentationData(images, **{**cfg.data, **held_out}, seed=saved.settings["seed"])
    data.statistics = model.statistics
    task = SegmentationTask(
        model=model,
        subjects=[Subject.of(images)],
        window=build_window(cfg, saved.window_crop),
    )
    return run_test(task, data, build_trainer(cfg))


def trained_dataset(cfg: DictConfig, saved: Checkpoint) -> DictConfig:
    """Return the dataset that a model was trained on; ``+dataset.root=DIR`` changes its folder.

    Raises:
        CheckpointError: the checkpoint has no dataset, or its configuration is not trusted.
    """
    from alps.training.load_net import trusted

    dataset = saved.dataset(cfg.classifier)
    if not dataset:
        raise CheckpointError(
            f"{saved.path} was trained in Python on images that a configuration cannot describe; "
            "choose a dataset with the same classes: dataset=NAME"
        )
    overrides = cfg.dataset if "dataset" in cfg else {}
    merged = OmegaConf.merge(trusted(dataset, "alps.images"), overrides)
    assert isinstance(merged, DictConfig)
    return merged


def predict(cfg: DictConfig) -> None:
    """Write index maps of images (stage=predict)."""
    from alps.training.load_net import load_net

    net = load_net(
        cfg.ckpt,
        classifier=cfg.classifier,
        device=cfg.trainer.accelerator,
        precision=cfg.trainer.precision,
    )
    net.window = build_window(cfg, net.window.crop)
    kept = f"finished predictions are kept; repeat the command with output={cfg.output} to resume"
    with one_line_errors(interrupted=kept):
        counts = net.predict_files(cfg.input, cfg.output, **cfg.predict)
    print(  # noqa: T201 - the result
        f"{counts.written} predicted, {counts.kept} already present, {counts.failed} skipped\n"
        f"predictions {cfg.output}"
    )


def export(cfg: DictConfig) -> None:
    """Write a checkpoint for mmsegmentation, or its encoder for timm (stage=export)."""
    from alps.training.load_net import restore

    saved, model = restore(cfg.ckpt, cfg.classifier)
    if cfg.export.to == "encoder":
        from alps.models.encoder_export import write_encoder

        write_encoder(model, cfg.output, source=saved.sha256)
        files = f"encoder.safetensors of {model.encoder.name} for timm"
    else:
        from alps.models.mmseg_export import write_mmseg

        window = build_window(cfg, saved.window_crop)
        write_mmseg(
            model,
            cfg.output,
            categories=saved.categories,
            ignore_index=saved.ignore_index,
            crop=window.crop,
            stride=window.crop - int(window.crop * window.overlap),
            reduce_zero_label=saved.dataset(cfg.classifier).get("reduce_zero_label", False),
            title=f"{saved.path.name}, step {saved.step}; {saved.protocol}",
            view=saved.view,
        )
        files = "config.py and weights.pth for mmsegmentation"
    print(f"{cfg.output}: {files}")  # noqa: T201 - the result


def start() -> None:
    """Run train.py with the arguments of the command line."""
    start_program(main, INTERRUPTED, {})


if __name__ == "__main__":
    start()
