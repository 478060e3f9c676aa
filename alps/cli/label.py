"""Label images; see `python label.py --help`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from alps.assign.limits import AUTO
from alps.cli.label_checks import check, compares_boxes
from alps.cli.program import (
    CONF,
    CONFIG_ERRORS,
    build_image_set,
    rename_old_targets,
    start_program,
    to_dict,
)
from alps.cli.secret_settings import refuse_secrets
from alps.cli.stored_settings import refuse_other_settings
from alps.errors import AlpsError, ConfigError, explain, one_line_errors, sigterm_raises

#: Settings that do not affect the labels.
LOCAL_KEYS = ("store", "paths", "overwrite", "evaluate", "choose_k", "verify", "strict", "engine")

INTERRUPTED = (
    "finished shards are kept; repeat the command to resume (without overwrite=, if it was set)"
)
HINTS = {"features": "; recipe=binary|random|samrs|samtext labels without features"}


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="label")
def main(cfg: DictConfig) -> None:
    """Compose and check the configuration, then label."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        with sigterm_raises():
            run_trial(cfg)
        return
    with one_line_errors(*CONFIG_ERRORS, interrupted=INTERRUPTED), sigterm_raises():
        rename_old_targets(cfg)
        check(cfg)
        run(cfg, Path(cfg.store))


def run_trial(cfg: DictConfig) -> None:
    """Run one trial of a multirun (``-m``).

    Raises:
        AlpsError: the trial failed; the error is reported at once, and Hydra raises it after the
            last trial.
    """
    try:
        rename_old_targets(cfg)
        check(cfg)
        run(cfg, Path(HydraConfig.get().runtime.output_dir) / cfg.name, is_trial=True)
    except (AlpsError, *CONFIG_ERRORS) as error:
        number, message = HydraConfig.get().job.num, explain(error)
        sys.stderr.write(f"trial {number} failed: {message}\n")
        if cfg.evaluate is True and "dataset" in cfg and compares_boxes(cfg.dataset):
            compare_trials({}, None, message)
        raise


def run(cfg: DictConfig, root: Path, *, is_trial: bool = False) -> None:
    """Build the objects of a configuration, label, and print a summary.

    Args:
        cfg: the checked configuration.
        root: folder of the store.
        is_trial: whether this is a trial of a multirun, whose scores are added to a table.

    Raises:
        ConfigError: ``verify`` is set in a distributed launch, or a setting is invalid.
    """
    resolved = OmegaConf.create(to_dict(cfg))
    refuse_secrets(to_dict(resolved))  # also secrets that result from interpolations
    image_set = build_image_set(cfg.dataset)
    if cfg.evaluate:
        check_ground_truth(cfg, image_set)
    refuse_other_settings(cfg, root)

    from alps.assign.choose_k import explain_choice  # imports torch, which takes seconds
    from alps.cli.summary import print_repair, print_summary
    from alps.labelling.pipeline import label

    features = instantiate(cfg.features)
    assign, ks = build_assigner(cfg, image_set, features), to_dict(resolved)["choose_k"]
    config = OmegaConf.masked_copy(
        resolved, [str(key) for key in resolved if key not in LOCAL_KEYS]
    )
    config.masks.pop("threads", None)  # set by the engine; it may differ between runs on a store
    engine = instantiate(cfg.engine)
    instances = scores_masks(cfg, image_set)
    if cfg.evaluate and instances and is_trial and "segmenter" in cfg.masks:
        instantiate(cfg.sam).load()  # so that the time of the first trial does not include it
    recipe = {
        "image_set": image_set,
        "masks": instantiate(cfg.masks),
        "features": features,
        "assign": assign,
        "name": cfg.name,
        "shard_size": cfg.shard_size,
    }
    if cfg.verify and engine.rank.world_size > 1:
        raise ConfigError(
            "verify= modifies the store, which all processes share; run it in a single process"
        )
    verification = verify_store(root, recipe, images=cfg.verify == "images") if cfg.verify else None
    store, timings = label(
        **recipe,
        engine=engine,
        root=root,
        config=OmegaConf.to_yaml(config),
        overwrite=cfg.overwrite,
        verified=bool(cfg.verify),
        strict=cfg.strict,
    )
    if engine.rank.rank:  # only the first process of a distributed launch prints the results
        return
    scores = choices = show = None
    if ks is not None or cfg.evaluate:
        scores, show, choices = add_pages(
            store, timings, image_set, assign, ks, evaluate=cfg.evaluate, instances=instances
        )
    print_summary(store, timings)
    if choices is not None:
        print(f"        {explain_choice(choices)}")  # noqa: T201 - the result
    if verification is not None and verification.faults:
        print_repair(verification, store)
    if show is not None:
        show(scores, store)
    if scores is not None and instances and is_trial:
        n = timings.images.get("masks", 0)
        compare_trials(scores.summary(), timings.seconds["masks"] / n if n else None)


def build_assigner(cfg: DictConfig, image_set: Any, features: Any) -> Any:
    """Return the assigner of a configuration.

    An assigner that takes the dataset gets ``image_set``, so that annotations are read only once.
    One whose ``channel_groups`` are ``auto`` gets those of ``features``.
    """
    arguments = {}
    if cfg.assign.get("images") == cfg.dataset:
        arguments["images"] = image_set
    if cfg.assign.get("channel_groups") == AUTO and features is not None:
        from alps.features.joined import channel_groups

        arguments["channel_groups"] = channel_groups(features)
    return instantiate(cfg.assign, **arguments)


def check_ground_truth(cfg: DictConfig, image_set: Any) -> None:
    """Raise `ConfigError` if an image set has no ground truth."""
    image_set.categories()  # raises an error now if the classes cannot be read
    if scores_masks(cfg, image_set) and not image_set.has_instances:
        raise ConfigError(
            f"evaluate=true needs ground-truth masks, but no object of dataset={cfg.dataset.name} "
            f"under {image_set.root} has one; data/README.md describes where to put them"
        )


def scores_masks(cfg: DictConfig, image_set: Any) -> bool:
    """Return whether an evaluation compares masks of boxes rather than classes of pixels.

    Some image sets have both kinds of ground truth; masks without boxes have no counterpart.
    """
    from alps.protocols import InstanceSet

    has_pixels = hasattr(type(image_set), "read_target")
    without_boxes = cfg.masks.get("_target_") == "alps.masks.AutoMasks"
    return isinstance(image_set, InstanceSet) and not (has_pixels and without_boxes)


def verify_store(root: Path, recipe: Mapping[str, Any], *, images: bool) -> Any:
    """Check a store, list its damaged files and delete them.

    Args:
        root: folder of the store.
        recipe: arguments of `alps.labelling.pipeline.settings_of`, by name.
        images: whether to compare the images with the hashes recorded during labelling.

    Returns:
        The result of `alps.store.verify.verify`.
    """
    from alps.cli.summary import print_verification
    from alps.labelling.pipeline import settings_of
    from alps.store.plan import draft
    from alps.store.verify import verify

    assign, image_set = recipe["assign"], recipe["image_set"]
    verification = verify(
        root,
        draft(**settings_of(**recipe)),
        paint=assign.paint,
        categories=assign.categories(),
        images=image_set if images else None,
    )
    print_verification(verification)
    return verification


def add_pages(
    store: Any,
    timings: Any,
    image_set: Any,
    assign: Any,
    ks: Sequence[int] | None,
    *,
    evaluate: bool,
    instances: bool,
) -> tuple[Any, Callable[..., Any] | None, Any]:
    """Evaluate a store, compare numbers of classes, and write the report pages.

    Args:
        store: the finished store.
        timings: times of the run, to which the time of the evaluation is added.
        image_set: the images and their ground truth.
        assign: the assigner.
        ks: numbers of classes to compare; None: no comparison.
        evaluate: whether to compare the labels with the ground truth.
        instances: whether to compare masks of boxes rather than classes of pixels.

    Returns:
        The scores, the function that prints them, and the comparison of ``ks``; None for each one
        that was not requested.
    """
    from alps.cli.summary import print_evaluation, print_instances
    from alps.evaluation.objects import score_instances
    from alps.evaluation.pseudo_labels import evaluate as evaluate_labels
    from alps.report import write_choose_k, write_evaluation, write_instances, write_report
    from alps.store.claims import Claims
    from alps.store.manifest import write_manifest

    compare: Callable[..., Any] = evaluate_labels
    write: Callable[..., Any] = write_evaluation
    show: Callable[..., Any] = print_evaluation
    if instances:
        compare, write, show = score_instances, write_instances, print_instances
    scores = choices = None
    with Claims(store.root) as claims:
        claims.register_run()  # keeps overwrite= and verify= of other runs from deleting files
        if evaluate:
            with timings.measure("evaluation"):
                scores = compare(store, image_set)
        with claims.exclusive("finish"):
            # The manifest marks a complete store. If this run is killed, the next one rewrites the
            # pages, because the manifest is missing.
            (store.root / "manifest.json").unlink(missing_ok=True)
            if ks is not None:
                with timings.measure("choose_k"):
                    choices = write_choose_k(store, assign, ks)
            if evaluate:
                write(store, image_set, scores)
            write_report(store, image_set)  # links to the other pages
            write_manifest(store)
            store.discard_unfinished()
    return scores, show if evaluate else None, choices


def compare_trials(
    scores: Mapping[str, float | int | None], seconds: float | None, error: str = ""
) -> None:
    """Add the current trial of a multirun to the table of trials, and print the table.

    Args:
        scores: scores of the masks of the trial.
        seconds: time for the masks in seconds per image; None if unknown.
        error: error message of a failed trial; empty if it succeeded.
    """
    from alps.evaluation.study import add_trial, print_trials

    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.sweep.dir)
    overrides = list(hydra_cfg.overrides.task)
    add_trial(folder, hydra_cfg.job.num, overrides, scores, seconds, error)
    print_trials(folder)


def start() -> None:
    """Run label.py with the arguments of the command line; ``dataset=`` works without a ``+``."""
    sys.argv[1:] = [f"+{arg}" if arg.startswith("dataset=") else arg for arg in sys.argv[1:]]
    start_program(main, INTERRUPTED, HINTS)


if __name__ == "__main__":
    start()
