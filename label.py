"""Label images: `python label.py +dataset=samrs`; `python label.py --help` says more."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises, and one_line_errors explains

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alps.choices import refuse_null_choices
from alps.errors import AlpsError, ConfigError, explain, one_line_errors, sigterm_raises
from alps.overrides import explained
from alps.secrets import refuse_secret_words, refuse_secrets

#: Not part of what was labelled: where the store lies, what this run was asked to redo, who works.
LOCAL_KEYS = ("store", "paths", "overwrite", "evaluate", "choose_k", "verify", "strict", "engine")

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)
INTERRUPTED = (
    "finished shards are kept, the same command resumes (without overwrite=, if it had one)"
)
CONF = Path(__file__).resolve().with_name("conf")
HINTS = {"features": "; recipe=binary|random|samrs|samtext labels without features"}


@hydra.main(version_base="1.3", config_path="conf", config_name="label")
def main(cfg: DictConfig) -> None:
    """Compose, build, label."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        with sigterm_raises():
            try_trial(cfg)
        return
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED), sigterm_raises():
        check(cfg)
        run(cfg)


def try_trial(cfg: DictConfig) -> None:
    """One of ``-m``: where it fails the others go on, and Hydra raises its error after them."""
    try:
        check(cfg)
        run(cfg)
    except (AlpsError, *CONFIG_ERRORS) as error:
        number, message = HydraConfig.get().job.num, explain(error)
        sys.stderr.write(f"trial {number} failed: {message}\n")
        if cfg.evaluate is True and "dataset" in cfg and compares_boxes(cfg.dataset):
            compare_trials({}, None, message)
        raise


def check(cfg: DictConfig) -> None:
    """Refuse what cannot be meant, before anything slow is imported."""
    refuse_secrets(OmegaConf.to_container(cfg, resolve=False))
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


def is_store(dataset: DictConfig) -> bool:
    """Whether a dataset is what label.py writes, not what it reads."""
    return str(dataset.get("_target_")).endswith(".StoredLabels")


def has_truth(dataset: DictConfig) -> bool:
    """Whether it knows the class of every pixel, or the mask of every box."""
    return hasattr(get_class(dataset._target_), "read_target") or compares_boxes(dataset)


def compares_boxes(dataset: DictConfig) -> bool:
    """Whether it may know the mask of every box."""
    return hasattr(get_class(dataset._target_), "read_instances")


def run(cfg: DictConfig) -> None:
    """Build what the configuration names, and label."""
    from alps.assign.choose_k import check_ks, explain_choice  # torch takes seconds
    from alps.claims import Claims
    from alps.evaluation import evaluate
    from alps.instances import InstanceSet, score_instances
    from alps.labelling import label, settings_of
    from alps.manifest import write_manifest
    from alps.plan import draft
    from alps.report import write_choose_k, write_evaluation, write_instances, write_report
    from alps.summary import (
        print_evaluation,
        print_findings,
        print_instances,
        print_repair,
        print_summary,
    )
    from alps.verify import verify

    root = Path(cfg.store)
    if multirun := HydraConfig.get().mode == RunMode.MULTIRUN:
        root = Path(HydraConfig.get().runtime.output_dir) / cfg.name
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    refuse_secrets(OmegaConf.to_container(resolved))  # one that an interpolation brought
    assign, ks = instantiate(cfg.assign), OmegaConf.to_object(resolved)["choose_k"]
    if ks is not None:
        check_ks(assign, ks)
    config = OmegaConf.masked_copy(resolved, [key for key in resolved if key not in LOCAL_KEYS])
    config.masks.pop("threads", None)  # the engine's; runs on one store may have others
    engine = instantiate(cfg.engine)
    image_set = instantiate(cfg.dataset)
    instances = isinstance(image_set, InstanceSet)
    if cfg.evaluate:
        image_set.categories()  # where they cannot be counted, this is the time to say so
    if cfg.evaluate and instances and not image_set.has_instances:
        raise ConfigError(
            f"evaluate=true compares with true masks, and no object of dataset={cfg.dataset.name} "
            f"under {image_set.root} has one; see data/README.md for where they stand, or label "
            "without evaluate"
        )
    if cfg.evaluate and instances and multirun and "segmenter" in cfg.masks:
        instantiate(cfg.sam).load()  # for all trials, not in the seconds of the first
    masks, features = instantiate(cfg.masks), instantiate(cfg.features)
    if cfg.verify and engine.place.world > 1:
        raise ConfigError("verify= repairs what all runs of a launcher use; start a single run")
    if cfg.verify:
        settings = settings_of(
            image_set, masks, features, assign, name=cfg.name, shard_size=cfg.shard_size
        )
        findings = verify(
            root,
            draft(**settings),
            paint=assign.paint,
            categories=assign.categories(),
            images=Path(image_set.root) if cfg.verify == "images" else None,
        )
        print_findings(findings)
    store, timings = label(
        image_set=image_set,
        masks=masks,
        features=features,
        assign=assign,
        engine=engine,
        root=root,
        name=cfg.name,
        config=OmegaConf.to_yaml(config),
        shard_size=cfg.shard_size,
        overwrite=cfg.overwrite,
        verified=bool(cfg.verify),
        strict=cfg.strict,
    )
    if engine.place.rank:  # of the runs that a launcher has begun, the first tells what came out
        return
    compare, write, show = (
        (score_instances, write_instances, print_instances)
        if instances
        else (evaluate, write_evaluation, print_evaluation)
    )
    if ks is not None or cfg.evaluate:
        with Claims(store.root) as claims:
            claims.arrive()  # overwrite= or verify= beside it would delete what is being read
            if cfg.evaluate:
                with timings.measure("evaluation"):
                    scores = compare(store, image_set)
            with claims.alone("finish"):
                # It says that the store is whole: without it, the next run writes what a kill
                # leaves out.
                (store.root / "manifest.json").unlink(missing_ok=True)
                if ks is not None:
                    with timings.measure("choose_k"):
                        choices = write_choose_k(store, assign, ks)
                if cfg.evaluate:
                    write(store, image_set, scores)
                write_report(store, image_set)  # which links to them
                write_manifest(store)
                store.discard_unfinished()
    print_summary(store, timings)
    if ks is not None:
        print(f"        {explain_choice(choices)}")  # noqa: T201 - the result
    if cfg.verify and findings.faults:
        print_repair(findings, store)
    if cfg.evaluate:
        show(scores, store)
    if cfg.evaluate and instances and multirun:
        n = timings.images.get("masks", 0)
        compare_trials(scores.summary(), timings.seconds["masks"] / n if n else None)


def compare_trials(
    scores: Mapping[str, float | int | None], seconds: float | None, error: str = ""
) -> None:
    """Add this trial of ``-m`` to the table of the sweep."""
    from alps.study import add_trial, print_trials

    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.sweep.dir)
    words = list(hydra_cfg.overrides.task)
    add_trial(folder, hydra_cfg.job.num, words, scores, seconds, error)
    print_trials(folder)


if __name__ == "__main__":
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED):
        refuse_secret_words(sys.argv[1:])  # -m writes them down before main is called
        refuse_null_choices(sys.argv[1:], CONF, HINTS)
        with explained(sys.argv[1:], CONF, HydraException):
            main()
