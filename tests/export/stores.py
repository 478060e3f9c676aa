"""Finished label stores in memory's sizes, with and without boxes."""

import numpy as np

from alps import rle
from alps.assign.category import ByCategory
from alps.boxes import Annotation, check_boxes
from alps.labelling import assign_shard
from alps.manifest import write_manifest
from alps.paint import covered, ignore_index_for, paint
from alps.palette import distinct_colors, index_png
from alps.plan import prepare
from alps.store import ImageStatus
from alps.types import Category, ImageRecord, Masks

SIZE = (40, 60)
NAMES = ("ship", "plane", "tank")
#: Corners of each image's boxes, their category, and whether they are ignored; the last but one
#: mask of "b" is empty. "gone" could not be read, "sea" has no box.
OBJECTS = {
    "a": [((2, 3, 20, 20), "ship", False), ((30, 5, 45, 10, 40, 25, 25, 20), "plane", False)],
    "b": [
        ((0, 0, 50, 35), "tank", False),
        ((5, 5, 15, 15), "ship", True),
        ((20, 20, 30, 30), "plane", False),
        ((40.25, 2, 58, 12), "ship", False),
    ],
    "sub/c": [((10, 10, 70, 30), "plane", False)],
    "gone": None,
    "sea": [],
}
SPLITS = {"a": "train", "b": "val", "gone": "train", "sea": "train", "sub/c": "val"}
EMPTY = ("b", 2)


class Harbour:
    """What the boxes are called."""

    name, root = "harbour", "nowhere"

    def records(self):
        raise AssertionError("the store has them")

    def read(self, record):
        raise AssertionError("no pixel is needed")

    def categories(self):
        return [Category(i, name, distinct_colors(3)[i]) for i, name in enumerate(NAMES)]


def boxed_masks(image_id):
    annotations = [
        Annotation(f"line {i}", category, points, ignore=ignore, score=i / 3 if i else None)
        for i, (points, category, ignore) in enumerate(OBJECTS[image_id])
    ]
    boxes, problems = check_boxes(annotations, dict(zip(NAMES, range(3), strict=True)), SIZE)
    assert not problems
    dense = np.zeros((len(boxes), *SIZE), bool)
    for i, (x0, y0, x1, y1) in enumerate(boxes.xyxy.astype(int)):
        if (image_id, i) != EMPTY:
            dense[i, y0:y1, x0:x1] = True
            dense[i, y0, x0 + 2 :] = False
    iou = np.linspace(0.5, 0.9, len(boxes), dtype=np.float32)
    return Masks.from_counts(rle.encode(dense), SIZE, predicted_iou=iou, boxes=boxes)


def open_store(root, records, *, k, masks, assign, shard_size):
    return prepare(
        root,
        name="tiny",
        images={"root": "nowhere"},
        records=records,
        identities={"masks": masks, "assign": assign},
        num_classes=k,
        ignore_index=ignore_index_for(k),
        versions={"alps": "0"},
        shard_size=shard_size,
    )


def write_masks(store, shard, masks):
    statuses = [
        ImageStatus(r.image_id, "ok" if len(m) else "empty", None, *m.size, len(m), covered(m))
        if (m := masks.get(r.image_id)) is not None
        else ImageStatus(r.image_id, "failed", f"{r.file_name} is cut short", 0, 0, 0, 0)
        for r in store.plan[shard]
    ]
    store.write_masks(shard, statuses, masks)


def boxed_store(root, *, prompt="hbox", shard_size=2, finished=True):
    """As `recipe=samrs` leaves it; both splits lie in the second shard."""
    assign = ByCategory(Harbour())
    store = open_store(
        root,
        [ImageRecord(i, f"images/{i}.png", split) for i, split in SPLITS.items()],
        k=3,
        masks={"source": "BoxMasks", "prompt": prompt},
        assign=assign.identity,
        shard_size=shard_size,
    )
    store.write_categories(assign.categories())
    for shard, records in enumerate(store.plan):
        readable = [r.image_id for r in records if OBJECTS[r.image_id] is not None]
        write_masks(store, shard, {i: boxed_masks(i) for i in readable})
        assign_shard(shard, store=store, assign=assign, clusters=None)
    if finished:
        write_manifest(store)
    return store


def pseudo_store(root, *, k=3, n=5):
    """As `recipe=alps` leaves it: every third mask has no class."""
    rng = np.random.default_rng(0)
    records = [ImageRecord(f"{i}", f"{i}.jpg") for i in range(n)]
    store = open_store(root, records, k=k, masks={}, assign={"assigner": "cluster"}, shard_size=2)
    colors = distinct_colors(k)
    store.write_categories([Category(i, f"cluster_{i}", colors[i]) for i in range(k)])
    for shard, records in enumerate(store.plan):
        masks = {}
        for record in records:
            counts = rle.encode(rng.random((6, 9, 7)) < 0.4)
            points = rng.random((6, 2)).astype(np.float32) * 7
            iou, stable = rng.random((2, 6)).astype(np.float32)
            masks[record.image_id] = Masks.from_counts(
                counts, (9, 7), predicted_iou=iou, stability_score=stable, point_coords=points
            )
        write_masks(store, shard, masks)
        ids = np.arange(6 * len(records), dtype=np.int32) % k
        ids[::3] = -1
        for i, record in enumerate(records):
            index_map = paint(
                masks[record.image_id], ids[6 * i : 6 * i + 6], store.info.ignore_index
            )
            store.write_annotation(record, index_png(index_map, colors, store.info.ignore_index))
        store.write_labels(shard, ids, None)
    write_manifest(store)
    return store


def all_masks(store):
    return {i: m for shard in range(len(store.plan)) for i, m in store.masks(shard).items()}


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
