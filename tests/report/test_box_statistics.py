"""Figures of masks with boxes, against a plain count."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from tiny_stores import draw_boxed, make_boxed_store, make_store, some_scenes

from alps.report import write_report, write_statistics
from alps.report.charts import boxes as box_figures
from alps.report.charts.boxes import box_charts, object_rows
from alps.report.charts.distributions import class_sizes
from alps.report.charts.figures import draw_bars, to_svg
from alps.report.counts import boxes as boxes_module
from alps.report.counts.boxes import (
    IOU_EDGES,
    SIZE_EDGES,
    BoxStatistics,
    Objects,
    is_rotated,
    prompt_quads,
    quad_iou,
)
from alps.report.counts.histogram import half_above, half_below
from alps.report.counts.statistics import StoreStatistics, compute_statistics
from alps.report.counts.tracks import TrackStatistics
from alps.structures import rle
from alps.structures.masks import Masks
from alps.structures.records import Category, ImageRecord

SIZE = (60, 90)
TEXTS = dict.fromkeys(("title", "finding", "x_label", "y_label"), "x")
BOXED = {"boxes", "objects", "object_sizes", "box_iou"}


def some_images(n=7, *, sizes=(SIZE, (130, 140)), rotated=True, masks=5):
    rng = np.random.default_rng(0)
    return [
        (
            ImageRecord(f"i{i}", f"i{i}.png", ("train", "val")[i % 2]),
            draw_boxed(rng, sizes[i % len(sizes)], masks, rotated=rotated),
        )
        for i in range(n)
    ]


def dense_box(xyxy, size):
    """Pixels whose centre is inside."""
    y, x = np.indices(size) + 0.5
    return (xyxy[0] <= x) & (x < xyxy[2]) & (xyxy[1] <= y) & (y < xyxy[3])


def dense_iou(masks, filled):
    pairs = zip(masks.to_array(), filled, strict=True)
    return np.array([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs])


def read(store, name):
    with (store.root / f"statistics/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_figures_are_those_of_a_plain_count(tmp_path):
    images = some_images()
    store, _ = make_boxed_store(
        tmp_path / "s",
        [*images, (ImageRecord("gone", "gone.png"), None)],
        dropped={"i0": 2, "i1": 1, "i4": 5},
    )
    statistics = compute_statistics(store)
    boxes = statistics.boxes
    for split in ("train", "val"):
        own = boxes.splits[split]
        masks = [m for record, m in images if record.split == split]
        kept = [m[~m.boxes.ignore] for m in masks]
        category = np.concatenate([m.boxes.category_id for m in kept])
        area = np.concatenate([m.area for m in kept])
        iou = np.concatenate(
            [dense_iou(m, [dense_box(b, m.size) for b in m.boxes.xyxy]) for m in kept]
        )
        assert own.ignored == sum(m.boxes.ignore.sum() for m in masks) > 0
        assert own.blank == (area == 0).sum() > 0
        assert own.dropped == {"train": 7, "val": 1}[split]
        assert own.areas.sum() == (area > 0).sum()
        np.testing.assert_array_equal(
            own.areas, np.histogram(area[area > 0], SIZE_EDGES)[0], err_msg=split
        )
        for c in range(3):
            of_class = category == c
            a = area[of_class]
            small, large = (a < 32**2).sum(), (a >= 96**2).sum()
            assert own.sizes[c].tolist() == [small, len(a) - small - large, large]
            assert own.pixels[c] == a.sum()
            assert own.iou[c] == pytest.approx(iou[of_class].sum())
            assert own.by_class[c] == of_class.sum()
        assert own.by_class[-1] == 0
    assert (sum(o.sizes for o in boxes.splits.values()).sum(0)[:2] > 0).all()
    assert [(s.image_id, s.dropped) for s in boxes.most_dropped] == [
        ("i4", 5),
        ("i0", 2),
        ("i1", 1),
    ]
    assert boxes.images_dropped == 3


@pytest.mark.parametrize("prompt", ["hbox", "rbox_mask", "rhbox"])
def test_the_iou_is_that_of_dense_masks(tmp_path, prompt):
    images = some_images(5)
    store, _ = make_boxed_store(tmp_path / "s", images, prompt=prompt)
    boxes = compute_statistics(store).boxes
    prompted, turned = [], []
    for _, masks in images:
        kept = masks[~masks.boxes.ignore]
        quads = [rle.decode(rle.encode_quad(q, kept.size), kept.size) for q in kept.boxes.quad]
        rotated = kept.boxes.object_id % 2 == 1  # as drawn
        turned.append(dense_iou(kept, quads)[rotated])
        corners = kept.boxes.quad.reshape(-1, 4, 2)
        around = np.concatenate([corners.min(1), corners.max(1)], axis=1)
        filled = [
            dense_box(box, kept.size) for box in (kept.boxes.xyxy if prompt == "hbox" else around)
        ]
        prompted.append(dense_iou(kept, quads if prompt == "rbox_mask" else filled))
    for found, iou in ((boxes.prompt_iou, prompted), (boxes.rotated_iou, turned)):
        iou = np.concatenate(iou)
        assert found.sum() == len(iou) > 0
        np.testing.assert_array_equal(found, np.histogram(iou, IOU_EDGES)[0])


def test_a_mask_that_fills_its_box_has_an_iou_of_one():
    masks = draw_boxed(np.random.default_rng(1), SIZE, 6)
    filled = [rle.encode_quad(quad, SIZE) for quad in masks.boxes.quad]
    full = Masks.from_counts(filled, SIZE, boxes=masks.boxes)
    np.testing.assert_array_equal(quad_iou(full, full.boxes.quad), 1)
    np.testing.assert_array_equal(is_rotated(full.boxes.quad), [False, True] * 3)
    assert (prompt_quads(full.boxes, "rbox_mask", SIZE) == full.boxes.quad).all()
    assert not is_rotated(prompt_quads(full.boxes, "rhbox_mask", SIZE)).any()


def test_every_number_is_in_the_tables(tmp_path):
    images = some_images()
    store, scenes = make_boxed_store(tmp_path / "s", images, dropped={"i2": 3})
    statistics = compute_statistics(store)
    write_statistics(store, statistics)
    page = write_report(store, scenes, statistics=statistics).read_text()
    names = {path.stem for path in (store.root / "statistics").iterdir()}
    assert names >= BOXED | {"dropped"}
    assert "track_cov" not in names
    splits = {row["split"]: row for row in read(store, "boxes")}
    rows = read(store, "objects")
    for split, own in statistics.boxes.splits.items():
        assert int(splits[split]["objects"]) == own.sizes.sum()
        assert [int(splits[split][s]) for s in ("small", "medium", "large")] == own.sizes.sum(
            0
        ).tolist()
        assert int(splits[split]["ignored"]) == own.ignored
        assert int(splits[split]["empty_masks"]) == own.blank
        assert int(splits[split]["dropped"]) == own.dropped
        objects = {int(r["category_id"]): int(r["objects"]) for r in rows if r["split"] == split}
        assert objects == {c: n for c, n in enumerate(own.by_class[:-1].tolist()) if n}
        sizes = [int(row[split]) for row in read(store, "object_sizes")]
        assert sizes == own.areas.tolist()
        assert f"Mask sizes in pixels, {split}" in page
    iou = read(store, "box_iou")
    assert [int(row["prompt"]) for row in iou] == statistics.boxes.prompt_iou.tolist()
    assert [int(row["rotated_box"]) for row in iou] == statistics.boxes.rotated_iou.tolist()
    assert read(store, "dropped") == [{"image_id": "i2", "dropped": "3"}]
    means = [(float(row["mean_pixels"]), float(row["mean_iou"])) for row in rows]
    expected = [
        (row.mean_pixels, row.iou) for row in object_rows(statistics.boxes, store.categories())
    ]
    np.testing.assert_allclose(means, expected, rtol=1e-5)


def test_a_store_without_boxes_has_no_such_section(tmp_path):
    store, scenes = make_store(tmp_path / "s", some_scenes(3))
    statistics = compute_statistics(store)
    assert statistics.boxes is None
    write_statistics(store, statistics)
    assert not {path.stem for path in (store.root / "statistics").iterdir()} & (
        BOXED | {"dropped", "track_cov"}
    )
    page = write_report(store, scenes, statistics=statistics).read_text()
    assert 'id="boxes"' not in page
    assert "#boxes" not in page
    assert "outline" not in page


def test_boxes_change_no_other_statistics(tmp_path):
    """The same masks with and without them; the classes are alike enough for an even scale."""
    images = some_images(4)
    store, _ = make_boxed_store(tmp_path / "a", images)
    other, _ = make_boxed_store(tmp_path / "b", images, boxed=False)
    for one in (store, other):
        write_statistics(one, compute_statistics(one))
    files = {path.name for path in (other.root / "statistics").iterdir()}
    assert files == {
        path.name for path in (store.root / "statistics").iterdir() if path.stem not in BOXED
    }
    for name in files:
        a, b = (one.root / "statistics" / name for one in (store, other))
        assert a.read_bytes() == b.read_bytes(), name


def test_boxes_without_classes_are_counted(tmp_path):
    store, scenes = make_boxed_store(tmp_path / "s", some_images(3), labelled=False)
    statistics = compute_statistics(store)
    write_statistics(store, statistics)
    assert {row["name"] for row in read(store, "objects")} == {""}
    assert "no class" in write_report(store, scenes, statistics=statistics).read_text()


@pytest.mark.parametrize("masks", ["none", "empty", "ignored"])
def test_a_store_where_nothing_is_left_of_the_boxes(tmp_path, masks):
    drawn = draw_boxed(np.random.default_rng(0), SIZE, 3)
    if masks == "none":
        drawn = Masks.empty(SIZE)
    if masks == "empty":
        drawn = Masks.from_counts(rle.encode(np.zeros((3, *SIZE), bool)), SIZE, boxes=drawn.boxes)
    if masks == "ignored":
        boxes = replace(drawn.boxes, ignore=np.ones(3, bool))
        drawn = Masks.from_counts(drawn.counts, SIZE, boxes=boxes)
    images = [(ImageRecord("a", "a.png"), drawn), (ImageRecord("b", "b.png"), None)]
    store, scenes = make_boxed_store(tmp_path / "s", images, dropped={"a": 1})
    statistics = compute_statistics(store)
    write_statistics(store, statistics)
    assert 'id="boxes"' in write_report(store, scenes, statistics=statistics).read_text()
    row = read(store, "boxes")[0]
    assert (row["objects"], row["ignored"], row["empty_masks"], row["dropped"]) == {
        "none": ("0", "0", "0", "1"),
        "empty": ("3", "0", "3", "1"),
        "ignored": ("0", "3", "0", "1"),
    }[masks]


def test_many_classes_and_dropped_boxes_are_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(box_figures, "ROWS", 2)
    monkeypatch.setattr(boxes_module, "MOST_DROPPED", 2)
    store, scenes = make_boxed_store(
        tmp_path / "s", some_images(8), dropped={f"i{i}": i + 1 for i in range(4)}
    )
    page = write_report(store, scenes).read_text()
    assert "and 1 more; all classes are in statistics/objects.csv" in page
    assert "In 4 images" in page
    assert "The 2 images with most" in page
    assert '<td class="mono">i3</td><td class="number">4</td>' in page
    assert '<td class="mono">i1</td><td class="number">2</td>' not in page


def test_uneven_classes_of_boxes_have_a_logarithmic_scale():
    statistics = StoreStatistics.zeros(3)
    statistics.class_masks += [20_000, 1, 30]
    categories = [Category(i, f"c{i}", (1, 2, 3)) for i in range(3)]
    assert class_sizes(statistics, categories)[0].y_label == "masks"
    statistics.boxes = BoxStatistics(3, "hbox", TrackStatistics({}), {"train": Objects.zeros(3)})
    masks, pixels = class_sizes(statistics, categories)
    assert (masks.y_label, pixels.y_label) == ("masks, log scale", "pixels")
    figure = draw_bars([masks])
    assert [bar.get_height() for bar in figure.axes[0].patches] == [20_000, 30, 1]
    assert figure.axes[0].get_ylim() == (0.5, 100_000)
    svg = to_svg(figure)
    assert [f">{text}<" in svg for text in ("1", "10", "100", "1k", "10k", "100k")] == [True] * 6


def test_half_of_a_histogram():
    edges = np.array([0.0, 0.25, 0.5, 1.0])
    assert half_above(np.array([1, 1, 2]), edges) == 0.5
    assert half_above(np.array([3, 1, 1]), edges) == 0.0
    assert half_above(np.array([0, 0, 1]), edges) == 0.5
    assert half_below(np.array([1, 1, 2]), edges) == 0.5
    assert half_below(np.array([3, 1, 1]), edges) == 0.25


def test_a_store_has_no_more_charts_than_six_splits(tmp_path):
    images = [
        (ImageRecord(f"i{i}", f"i{i}.png", f"s{i}"), masks)
        for i, (_, masks) in enumerate(some_images(8, masks=2))
    ]
    boxes = compute_statistics(make_boxed_store(tmp_path / "s", images)[0]).boxes
    assert len(boxes.splits) == 8
    assert len(box_charts(boxes)["object_sizes"]) == 6
