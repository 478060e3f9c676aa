"""Finished label stores in memory's sizes, with and without boxes."""

import numpy as np
from PIL import Image

from alps.assign.category import ByCategory
from alps.labelling.shard import assign_shard
from alps.store.layout import ImageStatus
from alps.store.manifest import write_manifest
from alps.store.plan import prepare
from alps.structures import rle
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.paint import count_covered, ignore_index_for, paint
from alps.structures.palette import distinct_colors, index_png
from alps.structures.records import Category, ImageRecord

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
#: Of each frame of each clip the boxes: corners, whether they are ignored, track, text. The last
#: frame of "city/b" could not be read; the first mask of its first frame is empty.
CLIPS = {
    "a": [
        [((2, 3, 20, 20), False, 9, "ALPS"), ((30, 5, 45, 25), True, 4, None)],
        [((4, 3, 22, 20), True, 9, "ALPS"), ((50, 5, 58, 25), False, None, "é")],
        [((6, 3, 24, 20), False, 9, "APS"), ((32, 5, 47, 10, 45, 25, 28, 20), True, 4, None)],
    ],
    "city/b": [
        [((0, 0, 12, 9), False, 1, "lost"), ((20, 20, 40, 30), False, 2, "x")],
        [((0, 0, 12, 9), False, 1, "lost")],
        [],
        None,
    ],
}


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
    return masks_in(annotations, empty=[EMPTY[1]] if image_id == EMPTY[0] else [])


def masks_in(annotations, empty=()):
    """Of each box all but its first row from the third column on."""
    boxes, problems = check_boxes(annotations, dict(zip(NAMES, range(3), strict=True)), SIZE)
    assert not problems
    dense = np.zeros((len(boxes), *SIZE), bool)
    for i, (x0, y0, x1, y1) in enumerate(boxes.xyxy.astype(int)):
        if i not in empty:
            dense[i, y0:y1, x0:x1] = True
            dense[i, y0, x0 + 2 :] = False
    iou = np.linspace(0.5, 0.9, len(boxes), dtype=np.float32)
    return Masks.from_counts(rle.encode(dense), SIZE, predicted_iou=iou, boxes=boxes)


def open_store(root, records, *, k, masks, assign, shard_size, images="nowhere", target="x.Folder"):
    return prepare(
        root,
        name="tiny",
        images={"root": images, "target": target},
        records=records,
        identities={"masks": masks, "assign": assign},
        num_classes=k,
        ignore_index=ignore_index_for(k),
        versions={"alps": "0"},
        shard_size=shard_size,
    )


def write_masks(store, shard, masks, places=None):
    """Places are the georeferences of images."""
    statuses = [
        ImageStatus(
            *(r.image_id, "ok" if len(m) else "empty", None, *m.size, len(m), count_covered(m)),
            georeference=(places or {}).get(r.image_id),
        )
        if (m := masks.get(r.image_id)) is not None
        else ImageStatus(r.image_id, "failed", f"{r.file_name} is cut short", 0, 0, 0, 0)
        for r in store.plan[shard]
    ]
    own = {r.image_id: masks[r.image_id] for r in store.plan[shard] if r.image_id in masks}
    store.shard(shard).write_masks(statuses, own)


def boxed_store(root, *, prompt="hbox", shard_size=2, finished=True, places=None, **more):
    """As `recipe=samrs` leaves it; both splits lie in the second shard."""
    assign = ByCategory(Harbour())
    store = open_store(
        root,
        [ImageRecord(i, f"images/{i}.png", split) for i, split in SPLITS.items()],
        k=3,
        masks={"source": "BoxMasks", "prompt": prompt},
        assign=assign.identity,
        shard_size=shard_size,
        **more,
    )
    readable = [image_id for image_id, rows in OBJECTS.items() if rows is not None]
    masks = {i: boxed_masks(i) for i in readable}
    return finish(store, assign, masks, finished=finished, places=places)


def video_store(root, *, shard_size=2, video_files=False):
    """As `recipe=samtext` leaves it; the frames are gray, and lie beside the store."""
    records, masks = [], {}
    for video, frames in CLIPS.items():
        for t, rows in enumerate(frames):
            name = f"{video}.mp4" if video_files else f"{video}/{t + 1}.png"
            records.append(ImageRecord(f"{video}/{t:06d}", name, "train", 0, video, t))
            if rows is None:
                continue
            annotations = [
                Annotation(f"line {i}", NAMES[0], box, ignore=ignore, track_id=track, text=text)
                for i, (box, ignore, track, text) in enumerate(rows)
            ]
            masks[records[-1].image_id] = masks_in(annotations, empty=[0] if video != "a" else [])
            path = root.with_name(f"{root.name}_frames") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not video_files:
                Image.new("RGB", SIZE[::-1], (90, 90, 90)).save(path)
    assign = ByCategory(Harbour())
    store = open_store(
        root,
        records,
        k=3,
        masks={"source": "BoxMasks", "prompt": "hbox"},
        assign=assign.identity,
        shard_size=shard_size,
        images=str(root.with_name(f"{root.name}_frames")),
    )
    return finish(store, assign, masks)


def finish(store, assign, masks, *, finished=True, places=None):
    store.write_categories(assign.categories())
    for shard in range(len(store.plan)):
        write_masks(store, shard, masks, places)
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
        store.shard(shard).write_labels(ids, None)
    write_manifest(store)
    return store


def all_masks(store):
    return {i: m for shard in range(len(store.plan)) for i, m in store.shard(shard).masks().items()}


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
