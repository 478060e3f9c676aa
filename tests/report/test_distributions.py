from collections import Counter

import numpy as np
import pytest

from alps.report.charts import distributions, numbers
from alps.report.charts.heat import heat_maps
from alps.report.counts.statistics import AREA_EDGES, COVERAGE_EDGES, StoreStatistics
from alps.structures.records import Category


def statistics_fixture(per_image=(0, 3, 3, 40), k=4, class_masks=(5, 0, 30, 11)):
    statistics = StoreStatistics.zeros(k)
    statistics.class_masks += class_masks
    statistics.class_pixels += np.array(class_masks)[::-1] * 9
    statistics.masks_per_image = Counter(per_image)
    statistics.masks = sum(per_image)
    statistics.areas[9], statistics.areas[14] = 6, statistics.masks - 6
    statistics.coverages[0], statistics.coverages[19] = 1, len(per_image) - 1
    return statistics


def categories(k):
    return [Category(i, f"thing_{i}", (i % 256, 0, 0)) for i in range(k)]


def totals(chart):
    """The counts of the bars."""
    assert len(chart.meanings) == len(chart.counts)
    return chart.counts.tolist()


def test_bars_hold_every_mask_and_image():
    statistics = statistics_fixture()
    assert sum(totals(distributions.mask_sizes(statistics))) == 46
    assert sum(totals(distributions.per_image(statistics.masks_per_image, "masks"))) == 4
    assert sum(totals(distributions.coverages(statistics))) == 4
    masks, pixels = distributions.class_sizes(statistics, categories(4))
    assert totals(masks) == [30, 11, 5, 0]
    assert totals(pixels) == [0, 45, 99, 270]  # in the same order
    for chart in (masks, pixels):
        assert [c.name for c in chart.classes] == ["thing_2", "thing_3", "thing_0", "thing_1"]
    assert "of 3 classes has 65.2% of the labelled masks, the largest 1 have" in masks.finding
    assert "of 3 classes has 65.2% of the labelled pixels, the largest 1 have" in pixels.finding


def test_mask_sizes_show_whole_decades():
    chart = distributions.mask_sizes(statistics_fixture())
    assert chart.ticks == [(0.0, "0.001%"), (4.0, "0.01%"), (8.0, "0.1%")]
    assert (chart.counts[1], chart.meanings[1]) == (6, "masks of 0.0018% to 0.0032%")
    assert "less than 0.056% of their image" in chart.finding
    assert (AREA_EDGES[-1], COVERAGE_EDGES[-1]) == (1, 1)


@pytest.mark.parametrize("per_image", [(0,), (1,), (5, 9), range(24), range(25), (0, 12345)])
def test_masks_per_image_have_few_bars_at_round_places(per_image):
    chart = distributions.per_image(Counter(per_image), "masks")
    assert len(chart.counts) <= distributions.COUNT_BARS + 1
    assert sum(totals(chart)) == len(per_image)
    assert 1 <= len(chart.ticks) <= 8
    assert all(0 <= place <= len(chart.counts) for place, _ in chart.ticks)


def test_many_classes_are_cut_to_the_largest():
    n = 1000
    statistics = statistics_fixture(k=n, class_masks=np.arange(n))
    chart, _ = distributions.class_sizes(statistics, categories(n))
    assert totals(chart) == list(range(999, 999 - distributions.CLASS_BARS, -1))
    assert "by decreasing number of masks, 200 of 1,000" in chart.x_label


def test_an_empty_store_has_empty_charts():
    charts = distributions.distributions(StoreStatistics.zeros(3), categories(3))
    for chart in (chart for group in charts.values() for chart in group):
        assert not chart.counts.any()
    assert heat_maps(StoreStatistics.zeros(3), categories(3)) == []


def test_figures_read_well():
    shares = (1.0, 0.98765, 0.5, 0.0123, 0.0000312, 0.0)
    assert [numbers.percent(s) for s in shares] == ["100%", "98.8%", "50%", "1.2%", "0.0031%", "0%"]
    assert [numbers.short(n) for n in (0, 950, 1500, 20_000, 3_000_000)] == [
        "0", "950", "1.5k", "20k", "3M",
    ]  # fmt: skip
    assert numbers.count(1234567) == "1,234,567"
    assert (numbers.decimal(0.51234), numbers.decimal(float("nan"))) == ("0.512", "unknown")
    assert [numbers.round_step(x) for x in (0.0, 1.0, 1.5, 3.0, 11.0, 51.0)] == [
        1,
        1,
        2,
        5,
        20,
        100,
    ]
    assert numbers.css_color((230, 69, 9)) == "#e64509"
    assert distributions.median(Counter({1: 2, 5: 2})) == 1
