"""Finished label stores over images in memory, made with the real `LabelStore`."""

import numpy as np

from alps.errors import ImageError
from alps.paint import covered, ignore_index_for, paint
from alps.palette import distinct_colors, index_png
from alps.plan import prepare
from alps.store import ImageStatus
from alps.types import Category, Clusters, ImageRecord, Masks, Sample


class Scenes:
    """An image set in memory that counts what is read."""

    name = "scenes"
    root = "/data/of/someone/scenes"

    def __init__(self, images, missing=()):
        self.images, self.missing, self.n_read = images, missing, 0

    def records(self):
        return [ImageRecord(i, f"{i}.png") for i in self.images]

    def read(self, record):
        self.n_read += 1
        if record.image_id in self.missing:
            raise ImageError(f"{record.file_name} is gone")
        return Sample(record.image_id, self.images[record.image_id])


def draw(rng, size, n):
    """An image and ``n`` rectangles in it."""
    image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    masks = np.zeros((n, *size), bool)
    for mask in masks:
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        mask[y : y + rng.integers(2, 16), x : x + rng.integers(2, 20)] = True
    return image, Masks.from_dense(masks)


def make_store(root, scenes, *, k=5, assign="cluster", failed=(), name="tiny_pl", distance=None):
    """A finished store; ``scenes`` maps ids to (image, masks), ``failed`` ids to errors."""
    failed = dict(failed)
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
            statuses.append(ImageStatus(record.image_id, status, None, *m.size, len(m), covered(m)))
        n = sum(len(m) for m in masks.values())
        store.write_masks(shard, statuses, masks)
        if assign == "cluster":
            store.write_features(shard, rng.random((n, 3), dtype=np.float32))
        if assign:
            far = rng.random(n, dtype=np.float32) if assign == "cluster" else None
            category_id = rng.integers(0, k, n, dtype=np.int32)
            write_labels(store, shard, category_id, far)
    if assign == "cluster":
        store.write_clusters(Clusters(np.zeros((k, 3), np.float32), np.ones(k, np.int64)))
    if assign:
        colors = distinct_colors(k)
        store.write_categories([Category(i, f"thing_{i}", colors[i]) for i in range(k)])
    return store, Scenes({i: image for i, (image, _) in scenes.items()})


def write_labels(store, shard, category_id, distance=None):
    """The labels of a shard, index maps first."""
    start, ignore_index = 0, store.info.ignore_index
    masks = store.masks(shard)
    for record in store.plan[shard]:
        if (found := masks.get(record.image_id)) is not None:
            stop = start + len(found)
            index_map = paint(found, category_id[start:stop], ignore_index)
            colors = distinct_colors(store.info.num_classes)
            store.write_annotation(record, index_png(index_map, colors, ignore_index))
            start = stop
    store.write_labels(shard, category_id, distance)


def some_scenes(n=7, size=(20, 30), masks=4):
    rng = np.random.default_rng(0)
    return {f"part{i % 2}/scene_{i:02d}": draw(rng, size, masks) for i in range(n)}
