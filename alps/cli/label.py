"""Label images: `python label.py +dataset=samrs`; `python label.py --help` says more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from alps.cli.label_checks import check, compares_boxes
from alps.cli.program import CONF, CONFIG_ERRORS, rename_old_targets, start_program, to_dict
from alps.cli.secret_settings import refuse_secrets
from alps.errors import AlpsError, ConfigError, explain, one_line_errors, sigterm_raises

#: Not part of what was labelled: where the store lies, what this run was asked to redo, who works.
LOCAL_KEYS = ("store", "paths", "overwrite", "evaluate", "choose_k", "verify", "strict", "engine")

INTERRUPTED = (
    "finished shards are kept, the same command resumes (without overwrite=, if it had one)"
)
HINTS = {"features": "; recipe=binary|random|samrs|samtext labels without features"}


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="label")
def main(cfg: DictConfig) -> None:
    """Compose, build, label."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        with sigterm_raises():
            try_trial(cfg)
        return
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED), sigterm_raises():
        rename_old_targets(cfg)
        check(cfg)
        run(cfg)


def try_trial(cfg: DictConfig) -> None:
    """Label one trial of ``-m``; an error is reported, and Hydra raises it after the others."""
    try:
        rename_old_targets(cfg)
        check(cfg)
        run(cfg)
    except (AlpsError, *CONFIG_ERRORS) as error:
        number, message = HydraConfig.get().job.num, explain(error)
        sys.stderr.write(f"trial {number} failed: {message}\n")
        if cfg.evaluate is True and "dataset" in cfg and compares_boxes(cfg.dataset):
            compare_trials({}, None, message)
        raise


def run(cfg: DictConfig) -> None:
    """Build what the configuration names, and label."""
    from alps.assign.choose_k import check_ks, explain_choice  # torch takes seconds
    from alps.cli.summary import (
        print_evaluation,
        print_findings,
        print_instances,
        print_repair,
        print_summary,
    )
    from alps.evaluation.objects import score_instances
    from alps.evaluation.pseudo_labels import evaluate
    from alps.labelling.pipeline import label, settings_of
    from alps.protocols import InstanceSet
    from alps.report import write_choose_k, write_evaluation, write_instances, write_report
    from alps.store.claims import Claims
    from alps.store.manifest import write_manifest
    from alps.store.plan import draft
    from alps.store.verify import verify

    root = Path(cfg.store)
    if multirun := HydraConfig.get().mode == RunMode.MULTIRUN:
        root = Path(HydraConfig.get().runtime.output_dir) / cfg.name
    resolved = OmegaConf.create(to_dict(cfg))
    refuse_secrets(to_dict(resolved))  # one that an interpolation brought
    assign, ks = instantiate(cfg.assign), to_dict(resolved)["choose_k"]
    if ks is not None:
        check_ks(assign, ks)
    config = OmegaConf.masked_copy(
        resolved, [str(key) for key in resolved if key not in LOCAL_KEYS]
    )
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
    scores: Any = None
    compare: Callable[..., Any]
    write: Callable[..., Any]
    show: Callable[..., Any]
    compare: Callable[..., Any]
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
    from alps.evaluation.study import add_trial, print_trials

    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.sweep.dir)
    words = list(hydra_cfg.overrides.task)
    add_trial(folder, hydra_cfg.job.num, words, scores, seconds, error)
    print_trials(folder)


def start() -> None:
    """Run label.py with the arguments of the command line; ``dataset=`` may be said without +."""
    sys.argv[1:] = [f"+{word}" if word.startswith("dataset=") else word for word in sys.argv[1:]]
    start_program(main, INTERRUPTED, HINTS)


if __name__ == "__main__":
    start()
