"""Learn and predict: `python train.py stage=pretrain`; `python train.py --help` says more."""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and one_line_errors explains

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from alps.choices import refuse_null_choices
from alps.errors import CheckpointError, ConfigError, one_line_errors
from alps.numbers import check_number
from alps.overrides import explained
from alps.secrets import refuse_secret_words, refuse_secrets

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)
INTERRUPTED = "nothing was learnt yet"
CONF = Path(__file__).resolve().with_name("conf")
#: Whole numbers that are used before Lightning looks at them, or that it takes unseen; null or not.
NUMBERS = (
    ("seed", "[0, inf)", False),
    ("trainer.max_steps", "[0, inf)", False),
    ("trainer.max_epochs", "[-1, inf)", True),
    ("trainer.accumulate_grad_batches", "[1, inf)", False),
    ("trainer.val_check_interval", "[1, inf)", True),
    ("trainer.check_val_every_n_epoch", "[1, inf)", True),
    ("trainer.num_sanity_val_steps", "[-1, inf)", False),
    ("trainer.log_every_n_steps", "[0, inf)", False),
    ("trainer.num_nodes", "[1, inf)", True),
)
#: What these tell of a dataset is the same in all processes of a run: the first one says it.
SAME_IN_ALL = ("alps.images", "alps.datasets.subset", "alps.findings")
#: Image sets that hold no labels: label.py makes a store of them.
UNLABELLED = (
    *("folder", "sample", "samrs"),
    *("bovtext", "coco", "dior", "dota", "dstext", "fair1m", "hrsc2016"),
    *("icdar2015_video", "nifti", "samrs_boxes", "table", "video", "voc"),
)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Compose, build, run; the score goes to Hydra's sweepers."""
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED):
        check(cfg)
        if cfg.resume is None and (folder := job_folder(cfg)) is not None:
            cfg.resume = newest_checkpoint(folder)
        cfg.run = run_folder(cfg)
        stages: dict[str, Callable[[DictConfig], float | None]]
        stages = {"pretrain": fit, "finetune": fit, "test": test, "predict": predict}
        stages |= {"export": export}
        return stages[cfg.stage](cfg)
    return None


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be meant, before anything slow is imported."""
    refuse_secrets(OmegaConf.to_container(cfg, resolve=False))
    if OmegaConf.is_missing(cfg, "stage"):
        raise ConfigError("train.py needs a stage: stage=pretrain|finetune|test|predict|export")
    names = {path.stem for path in CONF.glob("dataset/*.yaml")}
    labelled = "|".join(sorted(names.difference(UNLABELLED)))
    words = HydraConfig.get().overrides.task
    chosen = HydraConfig.get().runtime.choices
    learns = cfg.stage in ("pretrain", "finetune")
    if any(word.startswith("dataset=[") for word in words):  # Hydra would merge their keys
        raise ConfigError(
            "dataset= takes one dataset; several at once are +dataset@datasets.a=NAME "
            "+dataset@datasets.b=NAME, and -m dataset=a,b trains on one by one"
        )
    for key, choice in chosen.items():
        if key.partition("@")[0] == "dataset" and choice in UNLABELLED:
            raise ConfigError(
                f"{key}={choice} has no labels to learn from; make a store of it (python label.py "
                f"+dataset={choice}) and give that: {key}=store, with its root=STORE"
            )
    if "datasets" in cfg:
        check_datasets(cfg, words)
    if learns and "dataset" not in cfg and "datasets" not in cfg:
        raise ConfigError(f"stage={cfg.stage} needs a dataset: dataset={labelled}")
    if learns and OmegaConf.is_missing(cfg, "init") and cfg.resume is None:
        raise ConfigError("stage=finetune needs init=null (random), init=imagenet or init=FILE")
    if missing := sorted(OmegaConf.missing_keys(cfg) - {"init"}):
        raise ConfigError(" and ".join(f"{key}=..." for key in missing) + " must be given")
    for word in words:
        if not learns and word.partition("=")[0].partition(".")[0] in ("model", "head", "resume"):
            raise ConfigError(f"{word}: stage={cfg.stage} takes the net of ckpt={cfg.ckpt}")
    if not isinstance(cfg.resume, str | None):
        raise ConfigError(f"resume={cfg.resume}: expected a FILE")
    if cfg.strict not in (True, False):
        raise ConfigError(f"strict={cfg.strict}: expected true or false")
    for key, interval, optional in NUMBERS:
        check_number(key, OmegaConf.select(cfg, key), interval, whole=True, optional=optional)
    clip = "trainer.gradient_clip_val"
    check_number(clip, OmegaConf.select(cfg, clip), "[0, inf)", optional=True)


def check_datasets(cfg: DictConfig, words: list[str]) -> None:
    """Several datasets take the place of the one that a stage brings with it."""
    if cfg.stage not in ("pretrain", "finetune"):
        raise ConfigError(
            f"stage={cfg.stage} takes one dataset: dataset=NAME, and classifier=NAME if the net "
            "learnt several"
        )
    if any(word.startswith(("dataset=", "dataset.")) for word in words):
        raise ConfigError("give either dataset or datasets, not both")
    if cfg.loss.class_weights is not None:
        raise ConfigError("loss.class_weights are of one dataset; with several leave them null")
    choice = HydraConfig.get().runtime.choices.get("dataset")
    if choice not in (None, stage_dataset(cfg.stage)):
        raise ConfigError(
            f"an experiment chooses dataset={choice}, which would not be learnt beside datasets."
            f"{' and datasets.'.join(cfg.datasets)}; drop it with ~dataset; to learn it as "
            f"well, say +dataset@datasets.{choice}={choice}"
        )
    with open_dict(cfg):
        cfg.pop("dataset", None)


def stage_dataset(stage: str) -> str | None:
    """The dataset that a stage brings with it, if any."""
    for entry in OmegaConf.load(CONF / f"stage/{stage}.yaml").get("defaults", []):
        if "override /dataset" in entry:
            return str(entry["override /dataset"])
    return None


def run_folder(cfg: DictConfig) -> str:
    """Where a run writes: as asked for, but a resumed run into its own folder."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return str(HydraConfig.get().runtime.output_dir)
    asked = any(word.startswith("run=") for word in HydraConfig.get().overrides.task)
    if cfg.resume is not None:
        if asked and Path(cfg.run).resolve() != Path(cfg.resume).resolve().parent:
            raise ConfigError(f"run={cfg.run}: resume={cfg.resume} goes on in its own folder")
        return str(Path(cfg.resume).parent)
    return str(job_folder(cfg) or cfg.run)  # the time in it is told once


def job_folder(cfg: DictConfig) -> Path | None:
    """The folder that belongs to a SLURM job, where a requeued one finds itself again."""
    hydra_cfg = HydraConfig.get()
    asked = any(word.startswith("run=") for word in hydra_cfg.overrides.task)
    job = os.environ.get("SLURM_JOB_ID")
    on_slurm = job and hydra_cfg.runtime.choices.trainer == "slurm"
    if not on_slurm or asked or hydra_cfg.mode == RunMode.MULTIRUN:  # whose trials have their own
        return None
    return Path(cfg.paths.runs, cfg.name, str(job))


def newest_checkpoint(folder: Path) -> str | None:
    """Where a requeued job goes on, for its words do not say it; None for the first time.

    Lightning writes ``hpc_ckpt_1.ckpt`` and so on when SLURM warns the job.
    """
    found = [*folder.glob("hpc_ckpt_*.ckpt"), *folder.glob("last.ckpt")]
    return str(max(found, key=lambda path: path.stat().st_mtime_ns)) if found else None


def fit(cfg: DictConfig) -> float:
    """Learn: stage=pretrain and stage=finetune."""
    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities import rank_zero_only

    from alps.findings import report_findings
    from alps.models.init import load_init
    from alps.training.checkpoint import read_checkpoint
    from alps.training.runs import fit as run_fit
    from alps.training.runs import validation_interval
    from alps.training.task import SegmentationTask

    if rank_zero_only.rank:
        for name in SAME_IN_ALL:
            logging.getLogger(name).setLevel(logging.ERROR)
    seed_everything(cfg.seed, workers=True, verbose=False)
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    refuse_secrets(resolved)  # one that an interpolation brought
    saved = None if cfg.resume is None else read_checkpoint(cfg.resume)
    if saved is not None:
        saved.check_resume(resolved, cfg.trainer.max_steps)
    sets = {"": cfg.dataset} if "dataset" in cfg else cfg.datasets
    subjects, data = build_data(cfg, {name: instantiate(node) for name, node in sets.items()})
    for subject, part in zip(subjects, data.parts, strict=True):
        subject.fingerprint = part.fingerprint
    if saved is not None:
        saved.check_data({subject.name: subject.fingerprint for subject in subjects})
    saved = None  # with its weights, which Lightning reads for itself
    for part in data.parts:
        findings = part.label_findings(strict=cfg.strict)
        report_findings(findings, name=part.images.name, strict=cfg.strict)
    sizes = {subject.name: len(subject.categories) for subject in subjects}
    model = build_model(cfg, sizes.get("", sizes))
    if cfg.resume is None:
        report = load_init(model, cfg.init, skip=cfg.init_skip, strict=cfg.init_strict)
        rank_zero_only(print)(report, flush=True)  # what a user looks for first
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
    """Score a checkpoint: stage=test."""
    from alps.training.data import SegmentationData
    from alps.training.runs import test as run_test
    from alps.training.subject import Subject
    from alps.training.task import SegmentationTask

    choice = HydraConfig.get().runtime.choices.dataset
    saved, trained, model = restore(cfg.ckpt, cfg.classifier, choice)
    if choice is not None:
        images = instantiate(cfg.dataset)
    else:  # the checkpoint's own, perhaps moved: +dataset.root=DIR
        moved = cfg.dataset if "dataset" in cfg else {}
        own = trained.datasets[cfg.classifier] if "datasets" in trained else trained.dataset
        images = instantiate(OmegaConf.merge(trusted(own, "alps.images."), moved))
    names = [category.name for category in images.categories()]
    if (known := [category.name for category in saved.categories]) != names:
        raise CheckpointError(
            f"{saved.path} knows the classes {', '.join(known)} ({saved.protocol}), {images.name} "
            f"has {', '.join(names)}; test it on a dataset of its classes"
        )
    # The images held out then, and none of those learnt from; nothing is cut to learn from.
    held_out = {"crop": None, "fraction": 1.0, "hold_out": trained.data.hold_out}
    data = SegmentationData(images, **{**cfg.data, **held_out}, seed=trained.seed)
    task = SegmentationTask(
        model=model,
        subjects=[Subject.of(images)],
        window=build_window(cfg, saved.window_crop),
    )
    return run_test(task, data, build_trainer(cfg))


def predict(cfg: DictConfig) -> None:
    """Index maps of images: stage=predict."""
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
    """A configuration and weights for mmsegmentation: stage=export."""
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


def build_data(cfg: DictConfig, sets: dict[str, Any]) -> tuple[list[Any], Any]:
    """What is learnt, and the batches; the only dataset has an empty name."""
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
    """The net a configuration describes, with random weights."""
    from alps.encoders import Encoder
    from alps.models.heads.fcn import FCN
    from alps.models.segmentation import SegmentationModel

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
    """How whole images are predicted: in windows of ``crop`` px where none is asked for."""
    return instantiate(cfg.window, crop=crop if cfg.window.crop is None else cfg.window.crop)


def build_trainer(cfg: DictConfig, interval: int = 1) -> Any:
    """Lightning's Trainer with the run's callbacks and logger, validating after ``interval``."""
    from lightning.pytorch.callbacks import LearningRateMonitor

    from alps.training.runs import choose_accelerator
    from alps.training.sync_norm import SyncBatchNorm

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # else they advertise
    accelerator = choose_accelerator(cfg.trainer.accelerator)
    logger = instantiate(cfg.logger) or False
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values()]
    if not logger:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    # On CPUs there is no synchronised batch norm.
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
    """A checkpoint, the configuration of the run that wrote it, and its net.

    Of a net that learnt several datasets it is the part that knows the classes of one: of
    ``classifier``, or of ``dataset`` if it learnt one of that name.
    """
    from alps.training.checkpoint import read_checkpoint

    saved = read_checkpoint(ckpt)
    if classifier is None and dataset in saved.datasets:
        classifier = dataset
    saved = saved.choose(classifier)
    trained = OmegaConf.create(saved.config)
    try:
        trusted(trained.head, "alps.models.heads.")
        model = build_model(trained, len(saved.categories))
    except OmegaConfBaseException as error:
        raise CheckpointError(
            f"{ckpt}, written by ALPS {saved.version}, has a configuration that this ALPS does not "
            f"read: {error}; use that version"
        ) from error
    saved.load_into(model)
    return saved, trained, model


def trusted(node: Any, package: str) -> Any:
    """A part of a checkpoint's configuration, if all it builds are classes made in ``package``.

    A checkpoint may come from anywhere, and ``_target_`` can name any function that any module of
    ours imports.
    """
    for target in re.findall(r"_target_: *(\S+)", OmegaConf.to_yaml(node)):
        made = get_object(target) if target.startswith(package) else None
        if not isinstance(made, type) or f"{made.__module__}.{made.__qualname__}" != target:
            raise CheckpointError(
                f"the checkpoint's configuration would call {target}, expected a class of "
                f"{package}*; do not use it unless you know who made it"
            )
    return node


if __name__ == "__main__":
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED):
        refuse_secret_words(sys.argv[1:])  # -m writes them down before main is called
        refuse_null_choices(sys.argv[1:], CONF, {})
        with explained(sys.argv[1:], CONF, HydraException):
            main()
