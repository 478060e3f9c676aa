"""Processing of one shard: masks and features, then classes and index maps."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from alps.errors import ImageError, Unavailable
from alps.labelling.timings import Timings
from alps.protocols import Assigner, Featurizer, ImageSet, MaskSource
from alps.store.hashes import hash_file
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.paint import count_covered, ignore_nodata
from alps.structures.palette import index_png
from alps.structures.records import Clusters, Sample

log = logging.getLogger(__name__)

#: Maximum number of images, and of pixels, that are read ahead, to encode them as a batch on a GPU.
READ_AHEAD, READ_AHEAD_PIXELS = 8, 1 << 24
#: Error codes of a failed disk or network or of too many open files, not of a damaged file.
UNAVAILABLE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO")
    if hasattr(errno, name)
)
#: Maximum number of log lines about dropped annotations per image; the rest are counted.
MAX_LOGGED = 5


def label_shard(
    shard: int,
    *,
    store: LabelStore,
    image_set: ImageSet,
    masks: MaskSource,
    features: Featurizer | None,
) -> Iterator[int | Timings]:
    """Make the masks and features of one shard, or only the features if its masks exist.

    An image that cannot be read is logged, counted and skipped.

    Args:
        shard: number of the shard.
        store: the store.
        image_set: the images.
        masks: source of the masks of an image.
        features: computes features of masks. None: no features are needed.

    Yields:
        The number of finished images, after each image; finally, when the shard is committed, the
        times.

    Raises:
        Unavailable: the disk or the network failed.
        ImageError: an image with stored masks can no longer be read.
    """
    timings, n_done = Timings(), 0
    stored = store.shard(shard).masks() if store.has("masks", shard) else None
    statuses: dict[str, ImageStatus] = {}
    hashes: dict[str, str | None] = {}
    masks_of: dict[str, Masks] = {}
    rows = [np.zeros((0, features.channels), np.float32)] if features else []

    def read() -> Iterator[Sample]:
        nonlocal n_done
        for record in store.plan[shard]:
            if stored is not None and record.image_id not in stored:
                n_done += 1  # it could not be read when the masks were made
                continue
            try:
                if stored is None:  # hash before decoding, to detect later changes
                    hashes[record.image_id] = hash_file(image_set.root, record)
                yield image_set.read(record)
            except ImageError as error:
                refuse_unavailable(error, Path(image_set.root))
                if stored is not None:
                    raise
                log.warning("skipped %s: %s", record.file_name, error)
                statuses[record.image_id] = ImageStatus(
                    record.image_id, "failed", str(error), 0, 0, 0, 0
                )
                n_done += 1

    for samples in _group_samples(read()):
        if stored is None:
            with timings.measure("masks"):
                masks.prefetch(samples)
        for sample in samples:
            if stored is None:
                with timings.measure("masks", 1):
                    masks_of[sample.image_id] = masks(sample)
                dropped = (
                    *sample.dropped,
                    *_describe_nodata_masks(sample, masks_of[sample.image_id]),
                )
                statuses[sample.image_id] = _status(
                    sample, masks_of[sample.image_id], n_dropped=len(dropped)
                )
                _report_dropped(sample.image_id, dropped)
            else:
                masks_of[sample.image_id] = stored[sample.image_id]
            if features:
                with timings.measure("features", 1):
                    rows.append(features(sample, masks_of[sample.image_id]))
            n_done += 1
            yield n_done
    if features:
        store.shard(shard).write_features(np.concatenate(rows))
    if stored is None:
        ids = [record.image_id for record in store.plan[shard]]
        rows_of_images = [replace(statuses[i], sha256=hashes.get(i)) for i in ids]
        store.shard(shard).write_masks(rows_of_images, masks_of)
    yield timings


def refuse_unavailable(error: ImageError, root: Path) -> None:
    """Raise `Unavailable` if an image could not be read because of the disk or the network.

    A shard is committed only once: an image that is skipped during a short network outage would
    remain unlabelled.

    Raises:
        Unavailable: the disk or the network failed.
    """
    exception: BaseException | None = error
    while exception is not None:
        root_missing = (
            isinstance(exception, FileNotFoundError | NotADirectoryError) and not root.exists()
        )
        if root_missing or (isinstance(exception, OSError) and exception.errno in UNAVAILABLE):
            cause = f"{root} no longer exists" if root_missing else "the disk or the network failed"
            raise Unavailable(
                f"{error}; {cause}, so the run stops instead of skipping the image; repeat the "
                "command to resume when it is available again (if only this file is affected, move "
                "it away); finished shards are kept"
            ) from error
        exception = exception.__cause__


def _group_samples(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    """Yield groups of up to `READ_AHEAD` images and `READ_AHEAD_PIXELS` pixels.

    A larger image is a group by itself.
    """
    group: list[Sample] = []
    pixels = 0
    for sample in samples:
        size = sample.size[0] * sample.size[1]
        if group and (len(group) == READ_AHEAD or pixels + size > READ_AHEAD_PIXELS):
            yield group
            group, pixels = [], 0
        group.append(sample)
        pixels += size
    if group:
        yield group


def assign_shard(
    shard: int, *, store: LabelStore, assign: Assigner, clusters: Clusters | None
) -> Timings:
    """Write the classes and index maps of one shard.

    Args:
        shard: number of the shard.
        store: the store, with masks and features.
        assign: assigns classes to masks.
        clusters: the fitted clusters. None: the assigner needs no clusters.

    Returns:
        The time of the shard.
    """
    timings = Timings()
    with timings.measure("labels", int(store.plan.sizes[shard])):
        features, masks = store.shard(shard).features(), store.shard(shard).masks()
        ignore_index = store.info.ignore_index
        colors = [category.color for category in store.categories()]
        category_id = np.empty(len(features), np.int32)
        distance = np.empty(len(features), np.float32)
        statuses = {status.image_id: status for status in store.shard(shard).images()}
        start = 0
        for record in store.plan[shard]:
            if (image_masks := masks.get(record.image_id)) is not None:
                rows = slice(start, start + len(image_masks))
                start = rows.stop
                ids, distance[rows] = assign.assign(
                    features[rows], clusters, record.image_id, image_masks
                )
                category_id[rows] = ids
                painted = assign.paint(image_masks, ids, ignore_index)
                valid = statuses[record.image_id].read_valid()
                index_map = ignore_nodata(painted, valid, ignore_index)
                store.write_annotation(record, index_png(index_map, colors, ignore_index))
        store.shard(shard).write_labels(category_id, distance)
    return timings


def _report_dropped(image_id: str, dropped: Sequence[str]) -> None:
    # A reason for all boxes of an image, such as a wrong size, is repeated for each box.
    reasons = Counter(dropped).most_common()
    for reason, n in reasons[:MAX_LOGGED]:
        boxes = "a box" if n == 1 else f"{n} boxes"
        log.warning("dropped %s of %s: %s", boxes, image_id, reason)
    if n_more := sum(n for _, n in reasons[MAX_LOGGED:]):
        log.warning("dropped %d more of %s", n_more, image_id)


def _describe_nodata_masks(sample: Sample, masks: Masks) -> list[str]:
    """Return a message for each box whose mask was dropped because most of it is no-data."""
    if sample.valid is None or sample.boxes is None or masks.boxes is None:
        return []
    kept_ids = {*masks.boxes.object_id.tolist()}
    dropped_ids = [i for i in sample.boxes.object_id.tolist() if i not in kept_ids]
    return [f"annotation {i} (from 0): most of its mask is no data" for i in dropped_ids]


def _status(sample: Sample, masks: Masks, *, n_dropped: int) -> ImageStatus:
    height, width = sample.size
    return ImageStatus(
        image_id=sample.image_id,
        status="ok" if len(masks) else "empty",
        error=None,
        height=height,
        width=width,
        n_masks=len(masks),
        covered=count_covered(masks),
        dropped=n_dropped,
        valid=None if sample.valid is None else rle.encode(sample.valid[None])[0],
    )
