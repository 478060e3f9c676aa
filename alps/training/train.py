"""Training of a model on labelled sets, for train.py and `alps.fit`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from alps.datasets.bands import band_names, measure_bands
from alps.errors import ConfigError
from alps.models.init import load_init
from alps.models.segmentation import SegmentationModel
from alps.prediction.sliding import SlidingWindow
from alps.structures.bands import describe_bands
from alps.structures.findings import report_findings
from alps.training.checkpoint import read_checkpoint
from alps.training.data import SegmentationData
from alps.training.joint import JointData
from alps.training.optim import Optim
from alps.training.runs import fit, validation_interval
from alps.training.subject import Subject
from alps.training.task import SegmentationTask


def train(
    sets: Mapping[str, Any],  # LabelledSet, but its runtime type check would read the labels
    *,
    model: Callable[..., SegmentationModel],
    loss: Callable[..., nn.Module],
    optim: Optim,
    window: Callable[..., SlidingWindow],
    trainer: Callable[..., Trainer],
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    run: Path,
    max_steps: int,
    val_check_interval: int | None = None,
    init: str | None = None,
    init_skip: Collection[str] = (),
    init_strict: bool = True,
    strict: bool = False,
    compile: bool = False,  # noqa: A002 - the name of the setting
    seed: int = 0,
    resume: str | None = None,
) -> float:
    """Train a model and write its checkpoints.

    The caller seeds torch, which draws the random initial weights.

    Args:
        sets: labelled sets by name; the key of a single set is empty.
        model: builds the model from ``num_classes``, a number or a number by set, and
            ``band_names``.
        loss: builds the loss of a set from its ``ignore_index``.
        optim: builds the optimiser and its schedule.
        window: builds the sliding window from ``crop``, the side of the training crops in pixels.
        trainer: builds Lightning's trainer from ``interval``, the steps between two validations.
        data: arguments of `SegmentationData` except the images and the seed.
        settings: the resolved configuration, saved in every checkpoint.
        run: folder of the run.
        max_steps: number of optimiser steps.
        val_check_interval: steps between two validations; None: about a tenth of the run.
        init: initial weights of the model (`load_init`).
        init_skip: parts of the model that are not loaded from ``init``.
        init_strict: whether the parts in ``init`` have to fit completely.
        strict: whether inconsistencies of the images and labels are errors.
        compile: whether the model is compiled.
        seed: random seed of the order of images, of augmentation and of dropout.
        resume: path of the ``last.ckpt`` of a stopped run, which continues with identical results.

    Returns:
        The last val/mIoU.

    Raises:
        CheckpointError: the run of ``resume`` had different settings, bands or images, or is
            finished; or ``init`` belongs to a different model.
        ConfigError: a setting is out of range, the sets have different bands, or ``run`` contains a
            different run.
        DatasetNotFound: there are no images.
        DivergedError: the loss or a weight is not finite.
        ImageError: no training image of a set with bands can be read.
        LabelError: a label cannot be used, or no pixel is labelled.
        RunStopped: a signal stopped the run.
    """
    saved = None if resume is None else read_checkpoint(resume)
    if saved is not None:
        saved.check_settings(settings)
        saved.check_unfinished(max_steps)
    bands = common_bands(sets)
    statistics = None
    if saved is not None:
        saved.check_bands(bands, next(iter(sets.values())).name)
        statistics = saved.statistics
    subjects = [build_subject(images, name, loss) for name, images in sets.items()]
    module = build_data(sets, data, seed)
    for subject, part in zip(subjects, module.parts, strict=True):
        subject.fingerprint = part.fingerprint
    if saved is not None:
        saved.check_data({subject.name: subject.fingerprint for subject in subjects})
    saved = None  # free the memory of the weights, which Lightning reads again
    for part in module.parts:
        findings = part.label_findings(strict=strict)
        report_findings(findings, name=part.images.name, strict=strict)
    sizes = {subject.name: len(subject.categories) for subject in subjects}
    network = model(num_classes=sizes.get("", sizes), band_names=bands)
    if bands is not None:
        if statistics is None:
            images = [(part.images, record) for part in module.parts for record in part.train]
            statistics = measure_bands(images, bands)
        network.normalise_with(statistics)
    if resume is None:
        report = load_init(network, init, skip=init_skip, strict=init_strict)
        rank_zero_only(print)(report, flush=True)
    for part in module.parts:
        part.statistics = network.statistics
    if compile:
        network.compile()
    task = SegmentationTask(
        model=network,
        subjects=subjects,
        window=window(crop=module.crop),
        optim=optim,
        config=yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True),
        seed=seed,
    )
    interval = validation_interval(max_steps, val_check_interval)
    return fit(task, module, trainer(interval=interval), run=run, config=settings, resume=resume)


def common_bands(sets: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the bands that all sets of a run have; None: RGB.

    Raises:
        ConfigError: two sets have different bands, or the same in another order.
    """
    (first, bands), *others = ((name, band_names(images)) for name, images in sets.items())
    for name, names in others:
        if names != bands:
            raise ConfigError(
                f"the datasets of a run need the same bands in the same order, but {first} has "
                f"{describe_bands(bands)} and {name} {describe_bands(names)}; set "
                f"datasets.{first}.bands and datasets.{name}.bands alike"
            )
    return bands


def build_subject(images: Any, name: str, loss: Callable[..., nn.Module]) -> Subject:
    """Return the subject of a labelled set with its loss.

    Args:
        images: the labelled set.
        name: name of the set; empty for a single set.
        loss: builds the loss from the ``ignore_index`` of the set.

    Raises:
        ConfigError: the number of class weights differs from the number of classes.
    """
    criterion = loss(ignore_index=images.ignore_index)
    weight = getattr(criterion, "weight", None)
    classes = len(images.categories())
    if weight is not None and len(weight) != classes:
        raise ConfigError(
            f"loss.class_weights has {len(weight)} numbers, but {images.name} has {classes} "
            "classes; set one weight per class"
        )
    return Subject.of(images, name, loss=criterion)


def build_data(
    sets: Mapping[str, Any], options: Mapping[str, Any], seed: int
) -> SegmentationData | JointData:
    """Return the data module of one or several labelled sets.

    Args:
        sets: labelled sets by name; the key of a single set is empty.
        options: further arguments of `SegmentationData`.
        seed: random seed.
    """
    if "" in sets:
        return SegmentationData(sets[""], **options, seed=seed)
    return JointData(sets, **options, seed=seed)
