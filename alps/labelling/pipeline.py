"""The labelling pipeline: masks and features by shard, then clusters, then index maps by shard."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from alps import __version__
from alps.assign.cluster import Cluster
from alps.assign.limits import NO_FEATURES
from alps.errors import ConfigError, ImageError, ItemCrashed, WorkersLost
from alps.labelling.objects import join_objects
from alps.labelling.shard import assign_shard, draw_raster, label_shard
from alps.labelling.sharing import map_together, share
from alps.labelling.stages import IN_FLIGHT
from alps.labelling.timings import Timings
from alps.protocols import Assigner, Engine, Featurizer, ImageSet, MaskSource, ViewedSet
from alps.report import compute_statistics, write_report, write_statistics
from alps.store.claims import Claims
from alps.store.counts import count
from alps.store.label_store import LabelStore
from alps.store.layout import PARTS, Stage
from alps.store.manifest import write_manifest
from alps.store.plan import Redo, Settings, prepare
from alps.store.rasters import StoredRasters
from alps.structures.findings import AuditableSet, report_findings
from alps.structures.paint import ignore_index_for

log = logging.getLogger(__name__)

#: Libraries whose versions may affect masks and classes; the versions are stored in store.json.
LIBRARIES = (
    *("torch", "torchvision", "timm", "segment-anything-py", "numpy"),
    *("faiss-cpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-cuda"),  # at most one is installed
)


@runtime_checkable
class NumberedClasses(Protocol):
    """An image set whose annotation file assigns ids to its classes, such as COCO."""

    @property
    def category_ids(self) -> Sequence[int | str]:
        """Ids in the annotation file, in the order of the classes."""


@runtime_checkable
class ThreadedEngine(Protocol):
    """An engine with a number of threads per process."""

    @property
    def threads(self) -> int:
        """Number of CPU threads per process."""


def label(
    *,
    image_set: ImageSet,
    masks: MaskSource,
    features: Featurizer | None,
    assign: Assigner,
    engine: Engine,
    root: str | Path,
    name: str,
    config: str,
    shard_size: int | None = None,
    overwrite: Redo | None = None,
    verified: bool = False,
    strict: bool = False,
) -> tuple[LabelStore, Timings]:
    """Label an image set into the store at ``root``; an interrupted run is resumed.

    Several runs may label into one store at the same time, on machines that share its file system.
    They process different shards, wait for each other between stages, and finish together.

    Args:
        image_set: the images.
        masks: source of the masks of an image.
        features: computes features of masks. None: the classes do not depend on features.
        assign: assigns classes to masks.
        engine: runs the work in one or several processes.
        root: folder of the store.
        name: name of the store.
        config: resolved configuration as YAML, kept in the store.
        shard_size: images per shard. None: the default of `alps.store.plan.prepare`.
        overwrite: first stage to repeat; ``failed`` repeats the shards with images that could not
            be read.
        verified: whether the store has just been verified, so that files of an earlier version of
            ALPS are accepted.
        strict: whether inconsistencies in the dataset are an error.

    Returns:
        The store, and the times of this run.

    Raises:
        ConfigError: ``overwrite`` is set and a launcher has started several runs, clusters are
            requested without features, or ``strict`` is set and the dataset is inconsistent.
        DatasetNotFound: there are no images.
        ImageError: none of the images can be read.
        StoreError: the store cannot be written or was made with different settings.
        TooFewMasks: there are fewer masks than clusters.
    """
    timings = Timings()
    rank = engine.rank
    if overwrite is not None and rank.world_size > 1:
        raise ConfigError(
            f"overwrite={overwrite} deletes files that all {rank.world_size} runs of the launcher "
            "use; repeat the stage with a single run first"
        )
    settings = settings_of(image_set, masks, features, assign, name=name, shard_size=shard_size)
    with ExitStack() as stack:
        claims = stack.enter_context(Claims(Path(root)))
        store = prepare(root, claims=claims, overwrite=overwrite, verified=verified, **settings)
        del settings  # free the memory of all records
        _report_findings(store, image_set, strict=strict, quiet=store.complete or rank.rank > 0)
        if store.complete:
            return store, timings
        store.write_text("config.yaml", config)
        run = stack.enter_context(engine.workers())
        runs = partial(share, claims=claims, run=run, rank=rank.rank, world_size=rank.world_size)
        run_stages = partial(_run_stages, runs, store, timings)
        threads = engine.threads if isinstance(engine, ThreadedEngine) else 1
        label_one = partial(
            label_shard,
            store=store,
            image_set=image_set,
            masks=masks,
            features=features,
            threads=threads,
        )
        stages: tuple[Stage, ...] = ("masks", "features") if features else ("masks",)
        run_stages("masks and features", label_one, stages)
        counts = count(store)
        if counts.ok + counts.empty == 0:
            first = store.shard(0).images()[0]
            raise ImageError(
                f"none of the {counts.failed} images of {image_set.root} can be read; the first: "
                f"{first.error}"
            )
        if store.has_windows:
            parts = store.root / PARTS / store.info.stages["masks"]["fingerprint"]
            join_objects(store, map_together(runs, parts), runs, timings)
        clusters = store.clusters()
        if clusters is None:
            with timings.measure("clusters", counts.ok):
                parts = store.root / PARTS / store.info.stages["assign"]["fingerprint"]
                clusters = assign.fit(
                    store.all_features(), store.all_areas(), map_together(runs, parts)
                )
            with claims.exclusive("clusters"):
                if clusters is not None and store.clusters() is None:
                    store.write_clusters(clusters)
        store.write_categories(assign.categories())
        assign_one = partial(
            assign_shard, store=store, assign=assign, clusters=clusters, threads=threads
        )
        run_stages("labels", assign_one, ("assign",))
        if store.has_windows:
            draw_one = partial(draw_raster, store=store, assign=assign)
            _draw_rasters(runs, store, timings, draw_one)
        with claims.exclusive("finish"):
            shutil.rmtree(store.root / PARTS, ignore_errors=True)
            if not store.complete:  # another run may have finished it already
                with timings.measure("report"):
                    statistics = compute_statistics(store)
                    write_report(store, image_set, statistics=statistics)
                    write_statistics(store, statistics)
                with timings.measure("manifest"):
                    write_manifest(store)
                claims.clear()
                store.discard_unfinished()
    return store, timings


def _report_findings(store: LabelStore, image_set: ImageSet, *, strict: bool, quiet: bool) -> None:
    """Report inconsistencies of the dataset, counting them again if the store has no masks yet.

    Raises:
        ConfigError: ``strict`` is set and there are inconsistencies.
    """
    findings = store.findings()
    stale = findings is None or not store.has_begun("masks")
    if isinstance(image_set, AuditableSet) and (strict or (stale and not store.complete)):
        findings = image_set.findings()
        if not store.complete:
            store.write_findings(findings)
    if strict or not quiet:
        report_findings(findings or [], name=image_set.name, strict=strict)


def settings_of(
    image_set: ImageSet,
    masks: MaskSource,
    features: Featurizer | None,
    assign: Assigner,
    *,
    name: str,
    shard_size: int | None,
) -> Settings:
    """Return the settings of a store for an image set and the components of a recipe.

    Args:
        image_set: the images.
        masks: source of the masks of an image.
        features: computes features of masks. None: the classes do not depend on features.
        assign: assigns classes to masks.
        name: name of the store.
        shard_size: images per shard. None: the default.

    Returns:
        The arguments of `alps.store.plan.prepare`.

    Raises:
        ConfigError: clusters are requested without features.
    """
    if not features and isinstance(assign, Cluster):
        raise ConfigError(NO_FEATURES)
    category_ids = (
        {"category_ids": image_set.category_ids} if isinstance(image_set, NumberedClasses) else {}
    )
    view = image_set.view if isinstance(image_set, ViewedSet) else None
    return {
        "name": name,
        "images": {
            "target": _public_name(type(image_set)),
            "name": image_set.name,
            "root": str(image_set.root),
            **category_ids,
            **({} if view is None else {"view": view}),
        },
        "records": image_set.records(),
        "identities": {
            "masks": masks.identity,
            **({"features": features.identity} if features else {}),
            "assign": assign.identity,
        },
        "num_classes": assign.num_classes,
        "ignore_index": ignore_index_for(assign.num_classes),
        "versions": _versions(),
        "shard_size": shard_size,
    }


def _public_name(target: type) -> str:
    """Return the public name of a class, or its full name if it is not a public class of ALPS."""
    package = ".".join(target.__module__.split(".")[:2])
    if getattr(import_module(package), target.__qualname__, None) is target:
        return f"{package}.{target.__qualname__}"
    return f"{target.__module__}.{target.__qualname__}"


def _run_stages(
    share: Callable[..., Iterator[tuple[int, int | Timings]]],
    store: LabelStore,
    timings: Timings,
    title: str,
    work: Callable[[int], Iterator[int | Timings] | Timings],
    stages: Sequence[Stage],
) -> None:
    """Run stages on all shards, divided among the runs on the store, with a progress bar.

    Args:
        share: `alps.labelling.sharing.share` with the arguments of this run bound.
        store: the store.
        timings: times of this run; the times of the shards are added.
        title: title of the progress bar.
        work: processes one shard.
        stages: the stages that ``work`` runs.

    Raises:
        WorkersLost: all workers have died, or one shard has crashed every worker that processed it.
    """
    pending = sorted({shard for stage in stages for shard in store.missing(stage)})
    # Images counted per shard, so that a shard repeated after a crash counts once.
    counted = dict.fromkeys(pending, 0)

    def is_done(shard: int) -> bool:
        return all(store.has(stage, shard) for stage in stages)

    with _progress(title, store, pending) as bar, logging_redirect_tqdm():
        try:
            for shard, value in share(work, pending, stage=stages[0], is_done=is_done):
                if isinstance(value, Timings):
                    timings.add(value)
                    done = int(store.plan.sizes[shard])
                else:
                    done = value
                bar.update(max(done - counted[shard], 0))
                counted[shard] = max(done, counted[shard])
        except ItemCrashed as error:
            images = store.plan[error.index]
            first = images[min(counted[error.index], len(images) - 1)].file_name
            raise WorkersLost(
                f"shard {error.index} crashed every worker that processed it (the last one "
                f"{error.why}); the cause is {first} or one of the {IN_FLIGHT} images after it: "
                "move it away, or give each worker more memory, and repeat the command to resume; "
                "finished shards are kept"
            ) from error


def _draw_rasters(
    share: Callable[..., Iterator[tuple[int, int | Timings]]],
    store: LabelStore,
    timings: Timings,
    work: Callable[[int], Iterator[int | Timings]],
) -> None:
    """Draw the index maps of rasters, divided among the runs on the store, with a progress bar.

    Args:
        share: `alps.labelling.sharing.share` with the arguments of this run bound.
        store: the store, with labels.
        timings: times of this run; those of the rasters are added.
        work: draws one raster.
    """
    rasters = StoredRasters(store)

    def is_done(number: int) -> bool:
        return (store.root / rasters[number].file).exists()

    pending = [number for number in range(len(rasters)) if not is_done(number)]
    counted = dict.fromkeys(pending, 0)
    total = sum(len(rasters[number].grid.windows) for number in pending)
    with (
        tqdm(total=total, desc="index maps", unit="window", disable=not total) as bar,
        logging_redirect_tqdm(),
    ):
        for number, value in share(work, pending, stage="map", is_done=is_done):
            if isinstance(value, Timings):
                timings.add(value)
                value = len(rasters[number].grid.windows)
            bar.update(max(value - counted[number], 0))
            counted[number] = max(value, counted[number])


def _versions() -> dict[str, str]:
    """Return the versions of ALPS and of the installed `LIBRARIES`."""
    versions = {"alps": __version__}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return versions


def _progress(title: str, store: LabelStore, shards: Sequence[int]) -> Any:
    images = int(store.plan.sizes[[*shards]].sum())
    done = int(store.plan.sizes.sum()) - images
    return tqdm(
        total=images + done,
        initial=done,
        desc=title,
        unit="image",
        disable=not images,
        smoothing=0.1,
    )
