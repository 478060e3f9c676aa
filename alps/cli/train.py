"""Train and predict: `python train.py stage=pretrain`; `python train.py --help` says more."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from alps.cli.build import build_data, build_model, build_trainer, build_window, restore, trusted
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

INTERRUPTED = "nothing was learnt yet"
#: Loggers whose messages about a dataset are the same in all processes; only the first logs them.
SAME_IN_ALL = ("alps.images", "alps.datasets.subset", "alps.structures.findings")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Compose and check the configuration, then run its stage; return the score for sweepers."""
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
        ConfigError: another folder is requested for a resumed run.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return str(HydraConfig.get().runtime.output_dir)
    asked = any(word.startswith("run=") for word in HydraConfig.get().overrides.task)
    if cfg.resume is not None:
        if asked and Path(cfg.run).resolve() != Path(cfg.resume).resolve().parent:
            raise ConfigError(f"run={cfg.run}: resume={cfg.resume} goes on in its own folder")
        return str(Path(cfg.resume).parent)
    return str(job_folder(cfg) or cfg.run)  # resolves the time in the path once


def job_folder(cfg: DictConfig) -> Path | None:
    """Return the folder of a SLURM job, which a requeued job finds again; None outside SLURM."""
    hydra_cfg = HydraConfig.get()
    asked = any(word.startswith("run=") for word in hydra_cfg.overrides.task)
    job = os.environ.get("SLURM_JOB_ID")
    on_slurm = job and hydra_cfg.runtime.choices.get("trainer") == "slurm"
    if not on_slurm or asked or hydra_cfg.mode == RunMode.MULTIRUN:  # trials have their own folders
        return None
    return Path(cfg.paths.runs, cfg.name, str(job))


def newest_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint of a folder, or None if it has none.

    A requeued job resumes from it, because its command line does not change. Lightning writes
    ``hpc_ckpt_1.ckpt`` and so on when SLURM warns the job.
    """
    found = [*folder.glob("hpc_ckpt_*.ckpt"), *folder.glob("last.ckpt")]
    return str(max(found, key=lambda path: path.stat().st_mtime_ns)) if found else None


def fit(cfg: DictConfig) -> float:
    """Train a net (stage=pretrain and stage=finetune) and return its last val/mIoU."""
    nodes = {"": cfg.dataset} if "dataset" in cfg else cfg.datasets
    sets = {name: build_image_set(node) for name, node in nodes.items()}

    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from alps.models.init import load_init
    from alps.structures.findings import report_findings
    from alps.training.checkpoint import read_checkpoint
    from alps.training.runs import fit as run_fit
    from alps.training.runs import validation_interval
    from alps.training.task import SegmentationTask

    if getattr(rank_zero_only, "rank", 0):
        for name in SAME_IN_ALL:
            logging.getLogger(name).setLevel(logging.ERROR)
    seed_everything(cfg.seed, workers=True, verbose=False)
    resolved = to_dict(cfg)
    refuse_secrets(resolved)  # those that interpolations resolve to
    saved = None if cfg.resume is None else read_checkpoint(cfg.resume)
    if saved is not None:
        saved.check_resume(resolved, cfg.trainer.max_steps)
    subjects, data = build_data(cfg, sets)
    for subject, part in zip(subjects, data.parts, strict=True):
        subject.fingerprint = part.fingerprint
    if saved is not None:
        saved.check_data({subject.name: subject.fingerprint for subject in subjects})
    saved = None  # free the memory of its weights, which Lightning reads again
    for part in data.parts:
        findings = part.label_findings(strict=cfg.strict)
        report_findings(findings, name=part.images.name, strict=cfg.strict)
    sizes = {subject.name: len(subject.categories) for subject in subjects}
    model = build_model(cfg, sizes.get("", sizes))
    if cfg.resume is None:
        report = load_init(model, cfg.init, skip=cfg.init_skip, strict=cfg.init_strict)
        rank_zero_only(print)(report, flush=True)  # printed first, as users look for it
    if cfg.compile:
        model.compile()
    task = SegmentationTask(
        model=model,
        subjects=subjects,
        window=build_window(cfg, data.crop),
        optim=instantiate(cfg.optim),
        config=OmegaConf.to_yaml(OmegaConf.create(resolved)),
        seed=cfg.seed,
    )
    interval = validation_interval(cfg.trainer.max_steps, cfg.trainer.val_check_interval)
    trainer = build_trainer(cfg, interval)
    return run_fit(task, data, trainer, run=Path(cfg.run), config=resolved, resume=cfg.resume)


def test(cfg: DictConfig) -> float:
    """Score a checkpoint (stage=test) and return test/mIoU."""
    from alps.training.data import SegmentationData
    from alps.training.runs import test as run_test
    from alps.training.subject import Subject
    from alps.training.task import SegmentationTask

    choice = HydraConfig.get().runtime.choices.get("dataset")
    saved, trained, model = restore(cfg.ckpt, cfg.classifier, choice)
    if choice is not None:
        images = instantiate(cfg.dataset)
    else:  # the checkpoint's own dataset, which +dataset.root=DIR may relocate
        moved = cfg.dataset if "dataset" in cfg else {}
        own = trained.datasets[cfg.classifier] if "datasets" in trained else trained.dataset
        images = instantiate(OmegaConf.merge(trusted(own, "alps.images"), moved))
    names = [category.name for category in images.categories()]
    if (known := [category.name for category in saved.categories]) != names:
        raise CheckpointError(
            f"{saved.path} knows the classes {', '.join(known)} ({saved.protocol}), {images.name} "
            f"has {', '.join(names)}; test it on a dataset of its classes"
        )
    # The images that were held out in training; no crop is needed to score.
    held_out = {"crop": None, "fraction": 1.0, "hold_out": trained.data.hold_out}
    data = SegmentationData(images, **{**cfg.data, **held_out}, seed=trained.seed)
    task = SegmentationTask(
        model=model,
        subjects=[Subject.of(images)],
        window=build_window(cfg, saved.window_crop),
    )
    return run_test(task, data, build_trainer(cfg))


def predict(cfg: DictConfig) -> None:
    """Write index maps of images (stage=predict)."""
    from lightning.fabric import Fabric

    from alps.training.runs import choose_accelerator
    from alps.training.runs import predict as run_predict

    accelerator = choose_accelerator(cfg.trainer.accelerator)
    saved, _, model = restore(cfg.ckpt, cfg.classifier)
    run_predict(
        model,
        window=build_window(cfg, saved.window_crop),
        categories=saved.categories,
        weights=saved.sha256,
        fabric=Fabric(accelerator=accelerator, devices=1, precision=cfg.trainer.precision),
        source=cfg.input,
        target=cfg.output,
    )


def export(cfg: DictConfig) -> None:
    """Write a configuration and weights for mmsegmentation (stage=export)."""
    from alps.models.mmseg_export import write_mmseg

    saved, trained, model = restore(cfg.ckpt, cfg.classifier)
    window = build_window(cfg, saved.window_crop)
    own = trained.datasets[cfg.classifier] if "datasets" in trained else trained.dataset
    write_mmseg(
        model,
        cfg.output,
        categories=saved.categories,
        ignore_index=saved.ignore_index,
        crop=window.crop,
        stride=window.crop - int(window.crop * window.overlap),
        reduce_zero_label=own.get("reduce_zero_label", False),
        title=f"{saved.path.name}, step {saved.step}; {saved.protocol}",
    )
    print(f"{cfg.output}: config.py and weights.pth for mmsegmentation")  # noqa: T201 - the result


def start() -> None:
    """Run train.py with the arguments of the command line."""
    start_program(main, INTERRUPTED, {})


if __name__ == "__main__":
    start()
