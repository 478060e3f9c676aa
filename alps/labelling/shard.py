"""Processing of one shard: masks and features, then classes and index maps."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import numpy as np
from jaxtyping import Integer

from alps.labelling.image_stages import Image, ImageStages
from alps.labelling.stages import finish_in_order, read_ahead
from alps.labelling.timings import Timings
from alps.protocols import Assigner, Featurizer, ImageSet, MaskSource
from alps.store.label_store import LabelStore
from alps.store.layout import ImageStatus
from alps.store.raster_maps import RasterPainter
from alps.structures.masks import Masks
from alps.structures.paint import ignore_nodata
from alps.structures.palette import index_png
from alps.structures.records import Clusters, ImageRecord

log = logging.getLogger(__name__)

#: Maximum number of log lines about dropped annotations per image; the rest are counted.
MAX_LOGGED = 5


def label_shard(
    shard: int,
    *,
    store: LabelStore,
    image_set: ImageSet,
    masks: MaskSource,
    features: Featurizer | None,
    threads: int = 1,
) -> Iterator[int | Timings]:
    """Make the masks and features of one shard, or only the features if its masks exist.

    An image that cannot be read is logged, counted and skipped.

    Args:
        shard: number of the shard.
        store: the store.
        image_set: the images.
        masks: source of the masks of an image.
        features: computes features of masks. None: no features are needed.
        threads: number of threads that finish images.

    Yields:
        The number of finished images, after each image; finally, when the shard is committed, the
        times.

    Raises:
        Unavailable: the disk or the network failed.
        ImageError: an image with stored masks can no longer be read.
    """
    timings = Timings()
    stored = store.shard(shard).masks() if store.has("masks", shard) else None
    statuses: list[ImageStatus] = []
    masks_of: dict[str, Masks] = {}
    rows = [np.zeros((0, features.channels), np.float32)] if features else []
    stages = ImageStages(image_set=image_set, masks=masks, features=features, stored=stored)
    groups = read_ahead(stages.read, store.plan[shard], pixels=lambda image: image.pixels)
    images = stages.segment(groups, timings)
    finished = finish_in_order(
        stages.finish, images, pixels=lambda image: image.pixels, threads=threads
    )
    with closing(groups), closing(finished):
        for n_done, image in enumerate(finished, start=1):
            timings.add(image.timings)
            if image.status is not None:
                _report(image)
                statuses.append(image.status)
            if image.masks is not None:
                masks_of[image.record.image_id] = image.masks
            if image.features is not None:
                rows.append(image.features)
            yield n_done
    if features:
        store.shard(shard).write_features(np.concatenate(rows))
    if stored is None:
        store.shard(shard).write_masks(statuses, masks_of)
    yield timings


def assign_shard(
    shard: int,
    *,
    store: LabelStore,
    assign: Assigner,
    clusters: Clusters | None,
    threads: int = 1,
) -> Timings:
    """Write the classes of one shard, and its index maps unless its images are windows.

    The pieces of an object in several windows get the class of its mean features.

    Args:
        shard: number of the shard.
        store: the store, with masks and features.
        assign: assigns classes to masks.
        clusters: the fitted clusters. None: the assigner needs no clusters.
        threads: number of threads that write index maps.

    Returns:
        The time of the shard.
    """
    timings = Timings()
    with timings.measure("labels", int(store.plan.sizes[shard])):
        files = store.shard(shard)
        features = files.object_features() if store.has_windows else files.features()
        masks = files.masks()
        ignore_index = store.info.ignore_index
        colors = [category.color for category in store.categories()]
        category_id = np.empty(len(features), np.int32)
        distance = np.empty(len(features), np.float32)
        statuses = {status.image_id: status for status in files.images()}

        def assigned() -> Iterator[tuple[ImageRecord, Integer[np.ndarray, "H W"]]]:
            start = 0
            for record in store.plan[shard]:
                if (image_masks := masks.get(record.image_id)) is not None:
                    rows = slice(start, start + len(image_masks))
                    start = rows.stop
                    ids, distance[rows] = assign.assign(
                        features[rows], clusters, record.image_id, image_masks
                    )
                    category_id[rows] = ids
                    if store.has_windows:  # `alps.store.raster_maps` draws them
                        continue
                    painted = assign.paint(image_masks, ids, ignore_index)
                    valid = statuses[record.image_id].read_valid()
                    yield record, ignore_nodata(painted, valid, ignore_index)

        def write(map_of: tuple[ImageRecord, Integer[np.ndarray, "H W"]]) -> None:
            record, index_map = map_of
            store.write_annotation(record, index_png(index_map, colors, ignore_index))

        for _ in finish_in_order(
            write, assigned(), pixels=lambda map_of: map_of[1].size, threads=threads
        ):
            pass
        files.write_labels(category_id, distance)
    return timings


def draw_raster(number: int, *, store: LabelStore, assign: Assigner) -> Iterator[int | Timings]:
    """Write the index map of one raster of a store of windows.

    Args:
        number: number of the raster.
        store: the store, with labels.
        assign: draws masks with their classes.

    Yields:
        The number of finished windows, after each row of windows; finally, the times.
    """
    timings = Timings()
    with timings.measure("index maps"):
        painter = RasterPainter(store, assign.paint)
        yield from painter.write(painter.rasters[number])
    yield timings


def _report(image: Image) -> None:
    """Log why an image was skipped, and which of its annotations were dropped."""
    if image.status is not None and image.status.status == "failed":
        log.warning("skipped %s: %s", image.record.file_name, image.status.error)
    # A reason for all boxes of an image, such as a wrong size, is repeated for each box.
    reasons = Counter(image.dropped).most_common()
    for reason, n in reasons[:MAX_LOGGED]:
        boxes = "a box" if n == 1 else f"{n} boxes"
        log.warning("dropped %s of %s: %s", boxes, image.record.image_id, reason)
    if n_more := sum(n for _, n in reasons[MAX_LOGGED:]):
        log.warning("dropped %d more of %s", n_more, image.record.image_id)
