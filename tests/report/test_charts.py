from collections import Counter

import numpy as np
import pytest

from alps.report import charts, figures
from alps.report.census import AREA_EDGES, COVERAGE_EDGES, Census


def a_census(per_image=(0, 3, 3, 40), k=4, class_masks=(5, 0, 30, 11)):
    census = Census(np.array(class_masks), np.array(class_masks) * 9, np.zeros(k))
    census.masks_per_image = Counter(per_image)
    census.masks = sum(per_image)
    census.areas[9], census.areas[14] = 6, census.masks - 6
    census.coverages[0], census.coverages[19] = 1, len(per_image) - 1
    return census


def totals(chart):
    """The counts that the bars name; each bar must be as high as its count."""
    counts = [int(bar.stands_for.split()[0].replace(",", "")) for bar in chart.bars]
    top = max(c / b.height for c, b in zip(counts, chart.bars, strict=True) if b.height)
    for n, bar in zip(counts, chart.bars, strict=True):
        assert bar.height == pytest.approx(n / top)
        assert 0 <= bar.height <= 1
    assert chart.y_ticks[-1] == (1, figures.short(round(top)))
    return counts


def test_bars_hold_every_mask_and_image():
    census = a_census()
    assert sum(totals(charts.mask_sizes(census))) == 46
    assert sum(totals(charts.masks_per_image(census))) == 4
    assert sum(totals(charts.coverages(census))) == 4
    sizes = charts.class_sizes(census, list("abcd"), ["#1", "#2", "#3", "#4"])
    assert totals(sizes) == [30, 11, 5]
    assert [bar.color for bar in sizes.bars] == ["#3", "#4", "#1"]
    assert "largest of 3 classes holds 65.2% of the masks, the largest 1 hold" in sizes.finding


def test_mask_sizes_show_whole_decades():
    chart = charts.mask_sizes(a_census())
    assert chart.x_ticks == [(0.0, "0.001%"), (0.5, "0.01%"), (1.0, "0.1%")]
    assert chart.bars[1].stands_for == "6 masks of 0.0018% to 0.0032%"
    assert "less than 0.056% of their image" in chart.finding
    assert (AREA_EDGES[-1], COVERAGE_EDGES[-1]) == (1, 1)


@pytest.mark.parametrize("per_image", [(0,), (1,), (5, 9), range(24), range(25), (0, 12345)])
def test_masks_per_image_have_few_bars_at_round_places(per_image):
    chart = charts.masks_per_image(a_census(per_image))
    assert len(chart.bars) <= charts.COUNT_BARS + 1
    assert sum(totals(chart)) == len(per_image)
    assert 1 <= len(chart.x_ticks) <= 8
    assert all(0 <= place <= 1 for place, _ in chart.x_ticks)


def test_many_classes_are_cut_to_the_largest():
    n = 1000
    census = a_census(k=n, class_masks=np.arange(n))
    chart = charts.class_sizes(census, [str(i) for i in range(n)], ["#fff"] * n)
    assert totals(chart) == list(range(999, 999 - charts.CLASS_BARS, -1))
    assert "largest 200 of 999" in chart.x_label


def test_an_empty_store_has_empty_charts():
    census = Census(np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(3))
    for chart in (
        charts.mask_sizes(census),
        charts.masks_per_image(census),
        charts.coverages(census),
        charts.class_sizes(census, list("abc"), ["#1"] * 3),
    ):
        assert not any(bar.height for bar in chart.bars)
        assert chart.y_ticks == [(0, "0"), (1, "1")]


def test_figures_read_well():
    shares = (1.0, 0.98765, 0.5, 0.0123, 0.0000312, 0.0)
    assert [figures.percent(s) for s in shares] == ["100%", "98.8%", "50%", "1.2%", "0.0031%", "0%"]
    assert [figures.short(n) for n in (0, 950, 1500, 20_000, 3_000_000)] == [
        "0", "950", "1.5k", "20k", "3M",
    ]  # fmt: skip
    assert figures.count(1234567) == "1,234,567"
    assert (figures.decimal(0.51234), figures.decimal(float("nan"))) == ("0.512", "unknown")
    assert [figures.round_step(x) for x in (0.0, 1.0, 1.5, 3.0, 11.0, 51.0)] == [
        1,
        1,
        2,
        5,
        20,
        100,
    ]
    assert figures.css_color((230, 69, 9)) == "#e64509"
    assert charts.median(Counter({1: 2, 5: 2})) == 1
