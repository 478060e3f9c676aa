"""statistics/: tables that equal the statistics, and pictures of them."""

import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_stores import make_store, some_scenes

from alps.report.charts import figures, heat
from alps.report.charts.chart import LineChart, Point
from alps.report.charts.distributions import class_sizes, coverages, mask_sizes
from alps.report.counts.statistics import StoreStatistics, compute_statistics
from alps.report.pages.statistics import tables, to_csv, write_statistics
from alps.store.label_store import LabelStore
from alps.structures.masks import Masks
from alps.structures.records import Category

pytestmark = pytest.mark.pictures

NAMES = {"classes", "classes_per_image", "coverage", "heat_map", "mask_sizes", "masks_per_image"}


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_the_tables_contain_the_statistics(tmp_path):
    scenes = some_scenes(5) | {"zz": (np.zeros((9, 9, 3), np.uint8), Masks.empty((9, 9)))}
    store, _ = make_store(tmp_path / "s", scenes, k=7, failed={"bad": "x"})
    statistics = compute_statistics(store)
    write_statistics(store, statistics)
    found = {path.stem: read(path) for path in (store.root / "statistics").glob("*.csv")}
    assert found.keys() == NAMES
    classes = found["classes"]
    assert [row["name"] for row in classes] == [f"thing_{i}" for i in range(7)]
    for name, counted in (
        ("masks", statistics.class_masks),
        ("pixels", statistics.class_pixels),
        ("mean_distance", statistics.class_distance),
    ):
        np.testing.assert_allclose(column(classes, name), counted, rtol=1e-5)
    assert column(found["mask_sizes"], "masks").sum() == statistics.masks == 20
    assert column(found["coverage"], "images").sum() == 6
    for what, counted in (
        ("masks", statistics.masks_per_image),
        ("classes", statistics.classes_per_image),
    ):
        rows = found[f"{what}_per_image"]
        assert {int(row[what]): int(row["images"]) for row in rows} == counted
    cells = found["heat_map"]
    assert (len(cells), cells[33]["row"], cells[33]["column"]) == (32 * 32, "1", "1")
    assert column(cells, "all").sum() == pytest.approx(20, rel=1e-4)
    largest = statistics.by_size[0]
    np.testing.assert_allclose(
        column(cells, f"thing_{largest}"),
        statistics.positions[largest].ravel(),
        rtol=1e-5,
        atol=1e-12,
    )


def test_the_pictures_open_and_the_same_store_gives_the_same_bytes(tmp_path):
    store, _ = make_store(tmp_path / "s", some_scenes(3))
    shutil.copytree(tmp_path / "s", tmp_path / "t")
    for root in ("s", "t"):
        copy = LabelStore(tmp_path / root)
        write_statistics(copy, compute_statistics(copy))
    files = sorted(path.name for path in (store.root / "statistics").iterdir())
    assert files == sorted(f"{name}.{suffix}" for name in NAMES for suffix in ("csv", "png"))
    for name in files:
        path = store.root / "statistics" / name
        assert path.read_bytes() == (tmp_path / "t/statistics" / name).read_bytes()
        if path.suffix == ".png":
            with Image.open(path) as image:
                width = {"classes": 2000, "heat_map": 2080}.get(path.stem, 1280)
                assert image.size[0] == width
                assert image.info.keys() == {"dpi"}  # no version and no date
                assert len(np.unique(image.convert("L"))) > 10


@pytest.mark.parametrize("assign", [None, "category"])
def test_a_store_without_clusters(tmp_path, assign):
    store, _ = make_store(tmp_path / "s", some_scenes(2), assign=assign)
    write_statistics(store, compute_statistics(store))
    names = {path.stem for path in (store.root / "statistics").iterdir()}
    assert names == (NAMES if assign else NAMES - {"classes", "classes_per_image"})
    if assign:
        rows = read(store.root / "statistics/classes.csv")
        assert {row["mean_distance"] for row in rows} == {""}


def test_a_store_without_masks_has_no_map():
    assert "heat_map" not in tables(StoreStatistics.zeros(2), [])


def test_names_are_quoted():
    assert to_csv((("name", "x"), [('a,"b"', 0.1234567), ("é", None)])) == (
        'name,x\r\n"a,""b""",0.123457\r\né,\r\n'.encode()
    )


@pytest.mark.parametrize("k", [1, 64, 65])
def test_many_classes_fit(k):
    """Up to 64 have their names below them, in any script; the picture grows by the longest."""
    statistics = StoreStatistics.zeros(k)
    statistics.class_masks += np.arange(1, k + 1)
    statistics.masks = int(statistics.class_masks.sum())
    statistics.positions[:k] = 1 / 1024
    heights = []
    for name in ("车", "a_very_long_name_of_a_class"):
        categories = [Category(i, f"{name}{i}", (i % 256, 99, 99)) for i in range(k)]
        picture = figures.to_png(figures.draw_bars(class_sizes(statistics, categories)))
        heights.append(int.from_bytes(picture[20:24], "big"))  # IHDR
    assert (heights[1] > heights[0]) == (k <= 64)
    assert "<image " in figures.to_svg(figures.draw_maps(heat.heat_maps(statistics, categories)))


def test_lines_ring_what_is_favoured():
    texts = dict.fromkeys(("title", "finding", "x_label", "y_label"), "x")
    plain, ringed = (
        figures.to_svg(
            figures.draw_lines(
                [
                    LineChart(
                        points=[Point(2, 0.5, False), Point(4, 1.0, ring)], ticks=[2, 4], **texts
                    )
                ]
            )
        )
        for ring in (False, True)
    )
    assert plain != ringed
    for svg in (plain, ringed):
        assert re.findall("<title>(.*)</title>", svg) == ["2 classes: 0.5", "4 classes: 1"]


def test_pages_give_a_figure_its_colours_and_tooltips():
    statistics = StoreStatistics.zeros(3)
    statistics.class_masks += [3, 0, 12]
    categories = [Category(i, f'"<c{i}>', (1, 2, i)) for i in range(3)]
    svg = figures.to_svg(figures.draw_bars(class_sizes(statistics, categories)[:1]))
    tooltips = re.findall("<title>(.*)</title>", svg)
    assert tooltips == ['12 masks of "&lt;c2&gt;', '3 masks of "&lt;c0&gt;']
    assert "#010202" in svg
    assert "var(--soft)" in svg
    assert not re.search("<style|<metadata|<g id=|#5b6865|#dde2e0|20[0-9][0-9]-", svg)


def test_an_id_that_two_figures_of_a_page_share_stands_for_the_same():
    statistics = StoreStatistics.zeros(0)
    svgs = [figures.to_svg(figures.draw_bars([f(statistics)])) for f in (mask_sizes, coverages)]
    defined = [dict(re.findall(r'<path id="(\w+)"([^>]*)', svg)) for svg in svgs]
    shared = defined[0].keys() & defined[1].keys()
    assert shared
    assert all(defined[0][name] == defined[1][name] for name in shared)


def test_small_counts_stay_visible():
    statistics = StoreStatistics.zeros(2)
    statistics.class_masks += [1_000_000, 1]
    charts = class_sizes(statistics, [Category(i, f"c{i}", (1, 2, 3)) for i in range(2)])
    assert min(bar.get_height() for bar in figures.draw_bars(charts[:1]).axes[0].patches) == 6000


def test_maps_are_as_fine_as_their_masks_allow():
    fine = np.full((32, 32), 2.0)
    assert heat.coarsen(fine) is fine
    for cells, side in ((fine / 8, 16), (fine / 1e6, heat.COARSEST)):
        coarse = heat.coarsen(cells)
        assert coarse.shape == (side, side)
        assert coarse.sum() == pytest.approx(cells.sum())
    statistics = StoreStatistics.zeros(0)
    statistics.positions[0] = fine
    assert "43.8% of the masks are in the outer eighth" in heat.finding(statistics)


def test_masks_without_a_pixel_lie_nowhere():
    """SAM may give an empty mask for a box, for every box of a class, too."""
    statistics = StoreStatistics.zeros(2)
    statistics.masks, statistics.class_masks[:] = 5, (3, 2)
    categories = [Category(i, f"c{i}", (1, 2, 3)) for i in range(2)]
    assert heat.heat_maps(statistics, categories) == []
    statistics.positions[1] = 1
    assert [m.title for m in heat.heat_maps(statistics, categories)] == ["all", "c1"]
