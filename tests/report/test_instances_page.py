"""The page about masks from boxes beside true ones: the numbers of the JSON, and pictures."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from test_report import Page

from alps.errors import ImageError
from alps.evaluation.objects import score_instances
from alps.labelling.shard import label_shard
from alps.report import write_instances, write_report
from alps.report.pictures import objects
from alps.store.plan import prepare
from alps.structures.boxes import Annotation, check_boxes
from alps.structures.masks import Masks
from alps.structures.palette import distinct_colors
from alps.structures.records import Category, ImageRecord, Sample

SIZE = (60, 80)
NAMES = ("ship", "<b>plane")
COLORS = distinct_colors(2)


class Rectangles:
    """Images in memory; an object is a rectangle, its box reaches one pixel beyond it."""

    name, root, has_instances = "rectangles", "/data/of/someone", True

    def __init__(self, n=4, per_image=3, videos=False):
        rng = np.random.default_rng(0)
        self.videos, self.gone, self.unknown = videos, set(), set()
        self.images = {f"{i}": rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8) for i in range(n)}
        corner, side = (
            rng.integers(2, 30, (n, per_image, 2)),
            rng.integers(6, 24, (n, per_image, 2)),
        )
        self.objects = dict(
            zip(self.images, np.concatenate([corner, corner + side], 2), strict=True)
        )

    def records(self):
        return [
            ImageRecord(i, f"{i}.png", video_id=f"v{int(i) // 4}" if self.videos else None)
            for i in self.images
        ]

    def read(self, record):
        if record.image_id in self.gone:
            raise ImageError("it is gone")
        boxes, _ = check_boxes(
            [
                Annotation(f"{i}", NAMES[i % 2], (x0 - 1, y0 - 1, x1 + 1, y1 + 1))
                for i, (x0, y0, x1, y1) in enumerate(self.objects[record.image_id].tolist())
            ],
            {name: i for i, name in enumerate(NAMES)},
            SIZE,
        )
        return Sample(record.image_id, self.images[record.image_id], boxes)

    def categories(self):
        return [Category(i, name, COLORS[i]) for i, name in enumerate(NAMES)]

    def read_instances(self, record, boxes, size):
        keep = np.array([i not in self.unknown for i in boxes.object_id], bool)
        boxes = boxes[keep]
        dense = np.zeros((len(boxes), *size), bool)
        for mask, i in zip(dense, boxes.object_id, strict=True):
            x0, y0, x1, y1 = self.objects[record.image_id][i]
            mask[y0:y1, x0:x1] = True
        return Masks.from_counts(Masks.from_array(dense).counts, size, boxes=boxes)


class Fill:
    """A mask is its box, that of the last object of an image empty."""

    identity = {"source": "fill"}  # noqa: RUF012 - read only

    def prefetch(self, samples):
        """Nothing is slow here."""

    def __call__(self, sample):
        dense = np.zeros((len(sample.boxes), *sample.size), bool)
        for mask, (x0, y0, x1, y1) in zip(dense[:-1], sample.boxes.xyxy.astype(int), strict=False):
            mask[y0:y1, x0:x1] = True
        counts = Masks.from_array(dense).counts
        n = len(counts)
        return Masks.from_counts(
            counts, sample.size, predicted_iou=np.linspace(1, 0.5, n), boxes=sample.boxes
        )


def make(root, images):
    """A store with masks and no classes; `alps.labelling.pipeline.label` without its report."""
    store = prepare(
        root,
        name="tiny_seg",
        images={"root": images.root},
        records=images.records(),
        identities={"masks": Fill.identity},
        num_classes=2,
        ignore_index=255,
        versions={},
        shard_size=20,
    )
    for shard in range(len(store.plan)):
        for _ in label_shard(shard, store=store, image_set=images, masks=Fill(), features=None):
            pass
    return store


def words(path):
    return " ".join(re.sub(r"<[^>]*>", " ", path.read_text().partition("<body>")[2]).split())


def test_the_page_holds_the_numbers_of_the_json(tmp_path):
    images = Rectangles()
    store = make(tmp_path / "s", images)
    scores = score_instances(store, images)
    path = write_instances(store, images, scores)
    Page(path)
    found = json.loads((store.root / "evaluation.json").read_text())
    assert found == scores.to_json()
    assert (found["objects"], found["empty"], found["images"]) == (12, 4, 4)
    text = words(path)
    assert f"mean IoU {found['IoU']:.3f} median" in text
    for level in ("0.5", "0.75", "0.9"):
        assert (
            f"IoU \N{GREATER-THAN OR EQUAL TO} {level} {100 * found[f'IoU >= {level}']:.1f}%"
            in text
        )
    shown = f"AP {found['AP']:.3f} AP50 {found['AP50']:.3f}, AP75 {found['AP75']:.3f}"
    assert shown in text
    assert "objects compared 12 in 4 images empty masks 4 their IoU" in text
    assert f"small {found['objects by size']['small']} {found['IoU small']:.3f}" in text
    ship = found["by class"]["ship"]
    assert re.search(rf"ship 8 {ship['IoU']:.3f} .* {ship['AP']:.3f} &lt;b&gt;plane 4 ", text)
    assert "<b>plane" not in path.read_text()
    assert "are below 0.5" in text
    html = path.read_text()
    assert "<script" not in html
    assert not re.search(r"https?://", html)
    assert set(re.findall(r'href="([^#"][^"]*)"', html)) == {"report.html"}
    anchors = set(re.findall(r'href="#(\w+)"', html))
    assert anchors <= set(re.findall(r'id="(\w+)"', html))
    assert 'href="evaluation.html"' in write_report(store, images).read_text()


def test_the_same_store_gives_the_same_bytes(tmp_path):
    pages = []
    for folder in ("a", "b"):
        images = Rectangles()
        store = make(tmp_path / folder, images)
        pages.append(write_instances(store, images, score_instances(store, images)).read_bytes())
    assert pages[0] == pages[1]
    assert str(tmp_path).encode() not in pages[0]
    assert Rectangles.root.encode() not in pages[0]


def test_the_page_does_not_grow_with_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr("alps.report.pages.instances.CLASSES", 1)
    sizes = []
    for n in (8, 32):
        images = Rectangles(n)
        store = make(tmp_path / f"{n}", images)
        path = write_instances(store, images, score_instances(store, images))
        sizes.append(path.stat().st_size)
        assert "The 1 of 2 classes with most objects." in words(path)
        assert path.read_text().count("data:image/webp") == 3 * objects.OBJECTS
    assert sizes[1] < sizes[0] * 1.2


def test_what_is_gone_is_not_shown_and_what_is_unknown_is_counted(tmp_path):
    images = Rectangles()
    store = make(tmp_path / "s", images)
    images.unknown = {1}
    scores = score_instances(store, images)
    assert (len(scores.iou), scores.unknown) == (8, 4)
    images.gone = {"0", "1", "2", "3"}
    text = words(write_instances(store, images, scores))
    assert "objects compared 8 in 4 images; 4 without a ground-truth mask" in text
    assert text.count("None of the images could be read.") == 3


def test_a_store_without_objects_has_a_page(tmp_path):
    images = Rectangles(per_image=0)
    store = make(tmp_path / "s", images)
    text = words(write_instances(store, images, score_instances(store, images)))
    assert "mean IoU - median -" in text
    assert "There are no objects." in text


@pytest.mark.parametrize("videos", [False, True])
def test_best_median_and_worst_come_from_many_images(tmp_path, videos):
    images = Rectangles(16, videos=videos)
    store = make(tmp_path / "s", images)
    scores = score_instances(store, images)
    records = [record for shard in store.plan for record in shard]
    chosen = objects.choose_objects(scores, records)
    assert list(chosen) == ["Best", "Median", "Worst"]
    for rows in chosen.values():
        assert len({*rows}) == len(rows) == objects.OBJECTS
        sources = [records[scores.image[row]].image_id for row in rows]
        if videos:
            clips = [records[scores.image[row]].video_id for row in rows]
            assert max(map(clips.count, clips)) == 2  # of four clips
        else:
            assert len({*sources}) == len(sources)
    iou = {title: scores.iou[rows] for title, rows in chosen.items()}
    assert iou["Best"][0] == scores.iou.max()
    assert iou["Worst"][0] == scores.iou.min()
    assert iou["Median"][0] == np.sort(scores.iou)[::-1][len(scores.iou) // 2]


def test_a_picture_shows_both_outlines_and_the_box(tmp_path):
    images = Rectangles(1)
    image = np.full((*SIZE, 3), 90, np.uint8)
    record = images.records()[0]
    boxes = images.read(record).boxes[np.array([0])]
    true = images.read_instances(record, boxes, SIZE)
    dense = true.to_array().copy()
    dense[0, :, : int(true.xyxy[0, 0]) + 3] = False  # without its left part
    mask = Masks.from_counts(Masks.from_array(dense).counts, SIZE, boxes=boxes)
    picture = objects.draw_object(image, mask, true)
    assert max(picture.shape) == objects.SIDE
    colors = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    assert {objects.TRUE, objects.MASK, objects.BOX, (90, 90, 90)} <= colors
    columns = [
        np.flatnonzero((picture == color).all(2).any(0)) for color in (objects.TRUE, objects.MASK)
    ]
    assert columns[0].min() < columns[1].min()
    empty = Masks.from_counts(Masks.from_array(~dense & dense).counts, SIZE, boxes=boxes)
    nothing = objects.draw_object(image, empty, empty)
    assert {tuple(c) for c in nothing.reshape(-1, 3).tolist()} == {objects.BOX, (90, 90, 90)}


def test_pictures_are_readable_and_small(tmp_path):
    images = Rectangles()
    store = make(tmp_path / "s", images)
    html = write_instances(store, images, score_instances(store, images)).read_text()
    pictures = re.findall(r"data:image/webp;base64,([^\"]+)", html)
    assert pictures
    for picture in pictures:
        raw = base64.b64decode(picture)
        assert len(raw) <= objects.PICTURE_BYTES
        assert max(Image.open(io.BytesIO(raw)).size) <= objects.SIDE
