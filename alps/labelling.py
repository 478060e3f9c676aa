"""The labelling pipeline: masks and features shard by shard, then classes, then index maps."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64, Integer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from alps import __version__
from alps.claims import Claims
from alps.deadline import deadline
from alps.errors import ConfigError, ImageError, PieceLost, Unavailable, WorkersLost
from alps.manifest import write_manifest
from alps.paint import covered, ignore_index_for
from alps.palette import index_png
from alps.plan import Redo, Settings, prepare
from alps.report import take_census, write_report, write_statistics
from alps.sharing import Run, map_together, share
from alps.store import PARTS, ImageStatus, LabelStore, Stage
from alps.summary import Timings, count
from alps.types import (
    Category,
    Clusters,
    Featurizer,
    Identity,
    ImageSet,
    Mapper,
    Masks,
    MaskSource,
    Sample,
)

log = logging.getLogger(__name__)

#: Recorded in store.json: the libraries that decide what masks and classes come out.
LIBRARIES = (
    *("torch", "torchvision", "timm", "segment-anything-py", "numpy"),
    *("faiss-cpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-cuda"),  # one of them
)

#: Images read before the first is segmented, so that a GPU encodes several at once.
AHEAD, AHEAD_PIXELS = 8, 1 << 24
#: An image that takes longer to read is skipped; the largest take half a minute.
READ_SECONDS = 300.0
#: Errors that say nothing of a file: a disk, a network or the limit of open files fails.
UNAVAILABLE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO")
    if hasattr(errno, name)
)
#: Of an image's annotations that cannot be used so many are named; the others are counted.
NAMED = 5


@runtime_checkable
class Rank(Protocol):
    """Which of the runs that a launcher has begun this one is."""

    @property
    def rank(self) -> int:
        """0 in a run that stands alone."""

    @property
    def world(self) -> int:
        """How many there are."""


@runtime_checkable
class Engine(Protocol):
    """Where the shards are done."""

    @property
    def place(self) -> Rank:
        """This run among others."""

    def workers(self) -> AbstractContextManager[Run]:
        """What does tasks; its processes live as long as the context."""


@runtime_checkable
class Assigner(Protocol):
    """How masks get their classes."""

    @property
    def identity(self) -> Identity:
        """The settings that change the classes."""

    @property
    def num_classes(self) -> int:
        """K."""

    def fit(
        self,
        blocks: Sequence[Float[np.ndarray, "_ C"]],
        areas: Sequence[Int64[np.ndarray, " _"]],
        mapper: Mapper = map,
    ) -> Clusters | None:
        """Find the classes in the features of all shards; None where there is nothing to find.

        Args:
            blocks: a shard's features each; C is 0 where the recipe makes none.
            areas: pixels of the same masks.
            mapper: does parts of the work, here or elsewhere; their number is the data's.
        """

    def assign(
        self,
        features: Float[np.ndarray, "N C"],
        clusters: Clusters | None,
        image_id: str,
        masks: Masks | None,
    ) -> tuple[Int32[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """(category_id, distance) of each mask of an image; -1 and NaN where there is none."""

    def paint(
        self, masks: Masks, category_id: Int[np.ndarray, " N"], ignore_index: int
    ) -> Integer[np.ndarray, "H W"]:
        """The index map of an image: what its masks say, and what becomes of bare ground."""

    def categories(self) -> list[Category]:
        """Names and colours."""


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
) -> tuple[LabelStore, Timings]:
    """Label an image set into the store at ``root``; go on where an earlier run stopped.

    Args:
        image_set: the images.
        masks: where their masks come from.
        features: what the masks look like; None where their classes do not depend on it.
        assign: how features become classes.
        engine: where the work runs.
        root: folder of the store.
        name: of the store.
        config: the resolved configuration, kept beside the labels.
        shard_size: images per shard, see `alps.plan.prepare`.
        overwrite: a stage to redo with those after it; ``failed``: the shards with images that
            could not be read.

    Several runs may work on one store at once, on machines that share its file system: they do
    other shards, wait for each other between the stages, and end together.

    Raises:
        ConfigError: several runs that a launcher has begun are to redo a stage.
        DatasetNotFound: there are no images.
        ImageError: there are images, but not one of them can be read.
        StoreError: the store cannot be written or was made with other settings.
        TooFewMasks: there are fewer masks than classes.
    """
    timings = Timings()
    place = engine.place
    if overwrite is not None and place.world > 1:
        raise ConfigError(
            f"overwrite={overwrite} deletes what all {place.world} runs write; redo it with a "
            "single run first"
        )
    settings = settings_of(image_set, masks, features, assign, name=name, shard_size=shard_size)
    with ExitStack() as stack:
        claims = stack.enter_context(Claims(Path(root)))
        store = prepare(root, claims=claims, overwrite=overwrite, **settings)
        del settings  # with all records
        if store.complete:
            return store, timings
        store.write_text("config.yaml", config)
        run = stack.enter_context(engine.workers())
        runs = partial(share, claims=claims, run=run, rank=place.rank, world=place.world)
        together = partial(_do_together, runs, store, timings)
        label_one = partial(
            label_shard, store=store, image_set=image_set, masks=masks, features=features
        )
        stages: tuple[Stage, ...] = ("masks", "features") if features else ("masks",)
        together("masks and features", label_one, stages)
        counts = count(store)
        if counts.ok + counts.empty == 0:
            first = store.images(0)[0]
            raise ImageError(
                f"none of the {counts.failed} images of {image_set.root} can be used; the first: "
                f"{first.error}"
            )
        clusters = store.clusters()
        if clusters is None:
            with timings.measure("clusters", counts.ok):
                parts = store.root / PARTS / store.info.stages["assign"]["fingerprint"]
                clusters = assign.fit(
                    store.all_features(), store.all_areas(), map_together(runs, parts)
                )
            with claims.alone("clusters"):
                if clusters is not None and store.clusters() is None:
                    store.write_clusters(clusters)
        store.write_categories(assign.categories())
        assign_one = partial(assign_shard, store=store, assign=assign, clusters=clusters)
        together("labels", assign_one, ("assign",))
        with claims.alone("finish"):
            shutil.rmtree(store.root / PARTS, ignore_errors=True)
            if not store.complete:  # another run may have come first
                with timings.measure("report"):
                    census = take_census(store)
                    write_report(store, image_set, census=census)
                    write_statistics(store, census)
                with timings.measure("manifest"):
                    write_manifest(store)
                claims.clear()
                store.discard_unfinished()
    return store, timings


def settings_of(
    image_set: ImageSet,
    masks: MaskSource,
    features: Featurizer | None,
    assign: Assigner,
    *,
    name: str,
    shard_size: int | None,
) -> Settings:
    """What a store of these parts says of itself; see `label` for the arguments."""
    target = type(image_set)
    return {
        "name": name,
        "images": {
            "target": f"{target.__module__}.{target.__qualname__}",
            "name": image_set.name,
            "root": str(image_set.root),
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


def _do_together(
    share: Callable[..., Iterator[tuple[int, int | Timings]]],
    store: LabelStore,
    timings: Timings,
    what: str,
    work: Callable[[int], Iterator[int | Timings] | Timings],
    stages: Sequence[Stage],
) -> None:
    """Do some stages of all shards with all other runs, and show how far they are."""
    todo = sorted({shard for stage in stages for shard in store.missing(stage)})
    shown = dict.fromkeys(todo, 0)  # a shard whose worker died is counted once

    def is_done(shard: int) -> bool:
        return all(store.has(stage, shard) for stage in stages)

    with _progress(what, store, todo) as bar, logging_redirect_tqdm():
        try:
            for shard, value in share(work, todo, stage=stages[0], is_done=is_done):
                if isinstance(value, Timings):
                    timings.add(value)
                    done = int(store.plan.sizes[shard])
                else:
                    done = value
                bar.update(max(done - shown[shard], 0))
                shown[shard] = max(done, shown[shard])
        except PieceLost as error:
            first = store.plan[error.place][shown[error.place]].file_name
            raise WorkersLost(
                f"shard {error.place} ends each worker that does it, the last one {error.why}; it "
                f"was at {first} or one of the {AHEAD} images after it: move that image away, or "
                "give a worker more memory; what is finished is kept and the same command resumes"
            ) from error


def label_shard(
    shard: int,
    *,
    store: LabelStore,
    image_set: ImageSet,
    masks: MaskSource,
    features: Featurizer | None,
) -> Iterator[int | Timings]:
    """Masks and features of one shard; where the masks are there already, only the features.

    An image that cannot be read is reported, counted and skipped. Yields after each image how many
    are done, and, when the shard is committed, what it took.
    """
    timings, seen = Timings(), 0
    stored = store.masks(shard) if store.has("masks", shard) else None
    statuses: dict[str, ImageStatus] = {}
    found: dict[str, Masks] = {}
    rows = [np.zeros((0, features.channels), np.float32)] if features else []

    def read() -> Iterator[Sample]:
        nonlocal seen
        for record in store.plan[shard]:
            if stored is not None and record.image_id not in stored:
                seen += 1  # failed when its masks were made
                continue
            try:
                with deadline(READ_SECONDS, record.file_name):
                    sample = image_set.read(record)
                yield sample
            except ImageError as error:
                refuse_unavailable(error, Path(image_set.root))
                if stored is not None:
                    raise
                log.warning("skipped %s: %s", record.file_name, error)
                statuses[record.image_id] = ImageStatus(
                    record.image_id, "failed", str(error), 0, 0, 0, 0
                )
                seen += 1

    for samples in _read_ahead(read()):
        if stored is None:
            with timings.measure("masks"):
                masks.prefetch(samples)
        for sample in samples:
            if stored is None:
                with timings.measure("masks", 1):
                    found[sample.image_id] = masks(sample)
                statuses[sample.image_id] = _status(sample, found[sample.image_id])
                _report_dropped(sample)
            else:
                found[sample.image_id] = stored[sample.image_id]
            if features:
                with timings.measure("features", 1):
                    rows.append(features(sample, found[sample.image_id]))
            seen += 1
            yield seen
    if features:
        store.write_features(shard, np.concatenate(rows))
    if stored is None:
        rows_of_images = [statuses[record.image_id] for record in store.plan[shard]]
        store.write_masks(shard, rows_of_images, found)
    yield timings


def refuse_unavailable(error: ImageError, root: Path) -> None:
    """Raise `Unavailable` where a file is not to blame for that it could not be read.

    A shard is committed once: an image that a network lost for a moment would be lost for good.
    """
    reason: BaseException | None = error
    while reason is not None:
        gone = isinstance(reason, FileNotFoundError | NotADirectoryError) and not root.exists()
        if gone or (isinstance(reason, OSError) and reason.errno in UNAVAILABLE):
            why = f"{root} is gone" if gone else "that is the disk's or the network's fault"
            raise Unavailable(
                f"{error}; {why}, so no image is skipped: once it is there again the same command "
                "resumes, what is finished is kept (where it is one file alone, move that away)"
            ) from error
        reason = reason.__cause__


def _read_ahead(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Groups of at most `AHEAD` images and `AHEAD_PIXELS`, so that large ones come alone."""
    group: list[Sample] = []
    pixels = 0
    for sample in samples:
        size = sample.size[0] * sample.size[1]
        if group and (len(group) == AHEAD or pixels + size > AHEAD_PIXELS):
            yield group
            group, pixels = [], 0
        group.append(sample)
        pixels += size
    if group:
        yield group


def assign_shard(
    shard: int, *, store: LabelStore, assign: Assigner, clusters: Clusters | None
) -> Timings:
    """Classes and index maps of one shard; returns what it took."""
    timings = Timings()
    with timings.measure("labels", int(store.plan.sizes[shard])):
        features, masks = store.features(shard), store.masks(shard)
        ignore_index = store.info.ignore_index
        colors = [category.color for category in store.categories()]
        category_id = np.empty(len(features), np.int32)
        distance = np.empty(len(features), np.float32)
        start = 0
        for record in store.plan[shard]:
            if (found := masks.get(record.image_id)) is not None:
                rows = slice(start, start + len(found))
                start = rows.stop
                ids, distance[rows] = assign.assign(
                    features[rows], clusters, record.image_id, found
                )
                category_id[rows] = ids
                index_map = assign.paint(found, ids, ignore_index)
                store.write_annotation(record, index_png(index_map, colors, ignore_index))
        store.write_labels(shard, category_id, distance)
    return timings


def _versions() -> dict[str, str]:
    """Of what is installed: a clone need not be, and faiss has several wheels."""
    found = {"alps": __version__}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def _report_dropped(sample: Sample) -> None:
    for line in sample.dropped[:NAMED]:
        log.warning("dropped a box of %s: %s", sample.image_id, line)
    if len(sample.dropped) > NAMED:
        log.warning("dropped %d more of %s", len(sample.dropped) - NAMED, sample.image_id)


def _status(sample: Sample, masks: Masks) -> ImageStatus:
    height, width = sample.size
    return ImageStatus(
        image_id=sample.image_id,
        status="ok" if len(masks) else "empty",
        error=None,
        height=height,
        width=width,
        n_masks=len(masks),
        covered=covered(masks),
        dropped=len(sample.dropped),
    )


def _progress(what: str, store: LabelStore, shards: Sequence[int]) -> Any:
    images = int(store.plan.sizes[[*shards]].sum())
    done = int(store.plan.sizes.sum()) - images
    return tqdm(
        total=images + done,
        initial=done,
        desc=what,
        unit="image",
        disable=not images,
        smoothing=0.1,
    )
