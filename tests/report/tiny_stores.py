"""Finished label stores over images in memory, made with the real `LabelStore`."""

import numpy as np

from alps.errors import ImageError
from alps.masks.valid import keep_data
from alps.store.layout import ImageStatus
from alps.store.plan import prepare
from alps.structures import rle
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.paint import count_covered, ignore_index_for, paint
from alps.structures.palette import distinct_colors, index_png
from alps.structures.records import Category, Clusters, ImageRecord, Sample


class Scenes:
    """An image set in memory that counts what is read."""

    name = "scenes"
    root = "/data/of/someone/scenes"

    def __init__(self, images, missing=(), valid=()):
        self.images, self.missing, self.n_read = images, missing, 0
        self.valid = dict(valid)

    def records(self):
        return [ImageRecord(i, f"{i}.png") for i in self.images]

    def read(self, record):
        self.n_read += 1
        if record.image_id in self.missing:
            raise ImageError(f"{record.file_name} is gone")
        i = record.image_id
        return Sample(i, self.images[i], valid=self.valid.get(i))


def draw(rng, size, n):
    """An image and ``n`` rectangles in it."""
    image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    masks = np.zeros((n, *size), bool)
    for mask in masks:
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        mask[y : y + rng.integers(2, 16), x : x + rng.integers(2, 20)] = True
    return image, Masks.from_array(masks)


def make_store(
    root, scenes, *, k=5, assign="cluster", failed=(), name="tiny_pl", distance=None, valid=()
):
    """A finished store; ``scenes`` maps ids to (image, masks), ``failed`` ids to errors.

    ``valid`` maps the ids of images that hold no-data to the pixels that are data.
    """
    failed, valid = dict(failed), dict(valid)
    scenes = {i: (image, keep_data(masks, valid.get(i))) for i, (image, masks) in scenes.items()}
    identities = {"masks": {"points_per_side": 8, "sam": {"weights": "/opt/w/" + "ab" * 32}}}
    if assign == "cluster":
        identities["features"] = {"pool": "mean"}
    if assign:
        identities["assign"] = {"k": k, "seed": 0}
    store = prepare(
        root,
        name=name,
        images={"root": Scenes.root},
        records=[ImageRecord(i, f"{i}.png") for i in [*scenes, *failed]],
        identities=identities,
        num_classes=k,
        ignore_index=ignore_index_for(k),
        versions={"alps": "0.1.0"},
        shard_size=3,
    )
    rng = np.random.default_rng(1)
    for shard, records in enumerate(store.plan):
        statuses, masks = [], {}
        for record in records:
            if record.image_id in failed:
                error = failed[record.image_id]
                statuses.append(ImageStatus(record.image_id, "failed", error, 0, 0, 0, 0))
                continue
            m = masks[record.image_id] = scenes[record.image_id][1]
            status = "ok" if len(m) else "empty"
            data = valid.get(record.image_id)
            code = None if data is None else rle.encode(data[None])[0]
            statuses.append(
                ImageStatus(
                    record.image_id, status, None, *m.size, len(m), count_covered(m), valid=code
                )
            )
        n = sum(len(m) for m in masks.values())
        store.shard(shard).write_masks(statuses, masks)
        if assign == "cluster":
            store.shard(shard).write_features(rng.random((n, 3), dtype=np.float32))
        if assign:
            far = rng.random(n, dtype=np.float32) if assign == "cluster" else None
            category_id = rng.integers(0, k, n, dtype=np.int32)
            write_labels(store, shard, category_id, far)
    if assign == "cluster":
        store.write_clusters(Clusters(np.zeros((k, 3), np.float32), np.ones(k, np.int64)))
    if assign:
        colors = distinct_colors(k)
        store.write_categories([Category(i, f"thing_{i}", colors[i]) for i in range(k)])
    return store, Scenes({i: image for i, (image, _) in scenes.items()}, valid=valid)


def write_labels(store, shard, category_id, distance=None):
    """The labels of a shard, index maps first."""
    start, ignore_index = 0, store.info.ignore_index
    masks = store.shard(shard).masks()
    for record in store.plan[shard]:
        if (found := masks.get(record.image_id)) is not None:
            stop = start + len(found)
            index_map = paint(found, category_id[start:stop], ignore_index)
            colors = distinct_colors(store.info.num_classes)
            store.write_annotation(record, index_png(index_map, colors, ignore_index))
            start = stop
    store.shard(shard).write_labels(category_id, distance)


def some_scenes(n=7, size=(20, 30), masks=4):
    rng = np.random.default_rng(0)
    return {f"part{i % 2}/scene_{i:02d}": draw(rng, size, masks) for i in range(n)}


def draw_boxed(rng, size, n, *, track=False, rotated=True):
    """Masks of ``n`` boxes, every other one rotated, some of them ignored, some masks empty."""
    annotations, masks = [], np.zeros((n, *size), bool)
    for i in range(n):
        center = rng.uniform(8, np.array(size[::-1]) - 8)
        half, angle = rng.uniform(2, 12, 2), rng.uniform(0, np.pi) * (i % 2) * rotated
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
        turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        quad = (corners @ turn + center).ravel().tolist()
        ignore, name = bool(rng.random() < 0.2), f"thing_{rng.integers(0, 3)}"
        annotations.append(
            Annotation(str(i), name, quad, ignore=ignore, track_id=i if track else None)
        )
        y, x = np.indices(size)
        masks[i] = np.hypot(x + 0.5 - center[0], y + 0.5 - center[1]) < rng.choice([0, 5, 9, 40])
    boxes, problems = check_boxes(annotations, {f"thing_{i}": i for i in range(3)}, size)
    assert not problems
    return Masks.from_counts(rle.encode(masks), size, boxes=boxes)


def make_boxed_store(
    root, images, *, dropped=(), prompt="hbox", k=3, labelled=True, shard_size=2, boxed=True
):
    """As `recipe=samrs` leaves it; ``images`` are pairs of a record and its masks (None: failed).

    Without ``boxed`` the same masks and classes, but no box.
    """
    dropped = dict(dropped)
    identities = {"masks": {"source": "BoxMasks", "prompt": prompt}}
    if labelled:
        identities["assign"] = {"assigner": "category"}
    store = prepare(
        root,
        name="tiny_seg",
        images={"root": Scenes.root},
        records=[record for record, _ in images],
        identities=identities,
        num_classes=k if labelled else 0,
        ignore_index=ignore_index_for(k),
        versions={"alps": "0.1.0"},
        shard_size=shard_size,
    )
    all_masks = {record.image_id: masks for record, masks in images}
    for shard, records in enumerate(store.plan):
        statuses, masks, ids = [], {}, []
        for i in (record.image_id for record in records):
            if (m := all_masks[i]) is None:
                statuses.append(ImageStatus(i, "failed", "broken", 0, 0, 0, 0))
                continue
            if len(m):
                ids.append(np.where(m.boxes.ignore, -1, m.boxes.category_id))
            masks[i] = m if boxed else Masks.from_counts(m.counts, m.size)
            status = "ok" if len(m) else "empty"
            n = dropped.get(i, 0)
            statuses.append(ImageStatus(i, status, None, *m.size, len(m), count_covered(m), n))
        store.shard(shard).write_masks(statuses, masks)
        if labelled:
            write_labels(store, shard, np.concatenate([*ids, []]).astype(np.int32))
    if labelled:
        colors = distinct_colors(k)
        store.write_categories([Category(i, f"thing_{i}", colors[i]) for i in range(k)])
    rng = np.random.default_rng(0)
    return store, Scenes(
        {i: rng.integers(0, 255, (*m.size, 3), np.uint8) for i, m in all_masks.items() if m}
    )
