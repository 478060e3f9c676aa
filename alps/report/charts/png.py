"""Draw charts as PNG files, for papers and slides, with matplotlib.

Neither pyplot nor the user's matplotlibrc is used, so that a chart always gives the same bytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alps.report.charts.chart import BarChart, Chart, LineChart, Point
from alps.report.charts.heat import HeatMap, coarsen
from alps.report.charts.words import count

DPI = 200
ACCENT = "#0f766e"
NAMED = 64  # the most classes with their names below their bars
THINNEST = 0.004  # the least height of a bar, as a share of the plot's: one mask stays visible
# In inches. Margins are fixed because a layout engine would draw everything twice.
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.35, 0.4, 0.6
LETTER = 0.057  # width of a letter of a class name
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dde2e0",
    "ytick.left": False,
}


def draw_bars(charts: Sequence[BarChart]) -> bytes:
    """Draw charts with the same bars below each other, and return a PNG."""
    names = [bar.name for bar in charts[0].bars]
    named = any(names) and len(names) <= NAMED
    label = LETTER * max(map(len, names)) if named else 0.0
    with style.context(["default", STYLE]):
        width, height = 10.0 if any(names) else 6.4, 1.0 + 2.4 * len(charts) + label
        figure = _figure(width, height, bottom=BOTTOM + label)
        panels = figure.subplots(len(charts), sharex=True, squeeze=False)[:, 0]
        for axes, chart in zip(panels, charts, strict=True):
            n = max(len(chart.bars), 1)
            axes.bar(
                [(bar.place + 0.5) / n for bar in chart.bars],
                [max(bar.height, THINNEST) if bar.height else 0 for bar in chart.bars],
                width=(0.9 if n <= NAMED else 1) / n,
                color=[bar.color or ACCENT for bar in chart.bars],
            )
            _frame(axes, chart)
            if named:
                axes.tick_params(axis="x", length=0)
        if named:
            centers = [(i + 0.5) / len(names) for i in range(len(names))]
            panels[-1].set_xticks(centers, names, rotation=90, fontsize=7)
        panels[-1].set_xlabel(charts[-1].x_label)
        return _png(figure)


def draw_lines(charts: Sequence[LineChart]) -> bytes:
    """Draw charts side by side with rings around the favoured points, and return a PNG."""
    with style.context(["default", STYLE]):
        figure = _figure(3.5 * len(charts), 3.2)
        panels = figure.subplots(1, len(charts), squeeze=False, gridspec_kw={"wspace": 0.35})[0]
        for axes, chart in zip(panels, charts, strict=True):
            _frame(axes, chart)
            axes.set_xlabel(chart.x_label)
            axes.plot(*_places(chart.points), "o-", color=ACCENT, markersize=4, clip_on=False)
            ringed = _places([point for point in chart.points if point.favoured])
            axes.plot(*ringed, "o", color=ACCENT, markersize=11, fillstyle="none", clip_on=False)
        return _png(figure)


def draw_maps(maps: Sequence[HeatMap]) -> bytes:
    """Draw the first map large and up to six others small beside it, and return a PNG."""
    grid = [[0, 0, 1, 2, 3, "scale"], [0, 0, 4, 5, 6, "scale"]] if maps[1:] else [[0, "scale"]]
    with style.context(["default", STYLE, {"axes.titlepad": 5, "axes.titlesize": 9}]):
        figure = _figure(10.4 if maps[1:] else 4.8, 4.2, left=0.2, right=0.7, bottom=0.2)
        panels = figure.subplot_mosaic(
            [["." if i in range(len(maps), 7) else i for i in row] for row in grid],
            width_ratios=[1] * (len(grid[0]) - 1) + [0.08],
        )
        for i, heat_map in enumerate(maps):
            cells = coarsen(heat_map.cells)
            image = panels[i].imshow(cells / cells.max(), vmin=0, vmax=1)
            panels[i].set_title(f"{heat_map.title}, {count(heat_map.masks)} masks")
            panels[i].set_axis_off()
        label = "masks in a cell, as a share of the fullest"
        figure.colorbar(image, cax=panels["scale"], label=label)
        return _png(figure)


def _figure(
    width: float,
    height: float,
    *,
    left: float = LEFT,
    right: float = RIGHT,
    bottom: float = BOTTOM,
) -> Figure:
    figure = Figure((width, height))
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, top=1 - TOP / height, bottom=bottom / height
    )
    return figure


def _frame(axes: Axes, chart: Chart) -> None:
    axes.set_title(chart.title)
    axes.set_ylabel(chart.y_label)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for axis, ticks in ((axes.xaxis, chart.x_ticks), (axes.yaxis, chart.y_ticks)):
        axis.set_ticks([place for place, _ in ticks], labels=[text for _, text in ticks])


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Class names may be in any script. A letter that the font lacks is drawn as a box; the
        # HTML page shows it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
