"""Draw charts with matplotlib, as SVG for the pages and as PNG for papers and slides.

A chart always gives the same bytes: pyplot and the user's matplotlibrc are not used, and no time or
version is written.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from alps.report.charts.chart import BarChart, Chart, LineChart
from alps.report.charts.heat import HeatMap, coarsen
from alps.report.charts.numbers import count, css_color, decimal, short

DPI = 200
INK, SOFT, LINE, ACCENT = "#17201e", "#5b6865", "#dde2e0", "#0f766e"
#: CSS variables of the pages that replace colours, for dark mode and print.
PAGE_COLORS = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", ACCENT: "var(--accent)"}
STEPS = (1, 2, 5, 10)  # distances of the ticks of the y axis, times a power of ten
#: Parts of an SVG to remove: a style that would apply to the page (page.css contains it), clip
#: paths that are not needed, ids that would not be unique in the page, namespaces and fonts.
UNUSED = (
    r"<defs>\s*<(style|clipPath).*?</\1>\s*</defs>",
    r' clip-path="[^"]*"',
    r'(?<=<g) id="[^"]*"',
    r' xmlns(:xlink)?="[^"]*"',
    r"font-family: [^;]*; ",
)
NAMED = 64  # maximum number of classes with names below the bars
LONGEST = 18  # maximum number of characters of a class name above a map
THINNEST = 0.006  # minimum height of a bar as a fraction of the plot, so that one mask is visible
# Margins in inches; they are fixed, because a layout engine would draw everything twice.
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.35, 0.45, 0.6
LETTER = 0.065  # width of a letter of a class name, in inches
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlecolor": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "text.color": SOFT,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "ytick.left": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "alps",
}


def draw_bars(charts: Sequence[BarChart]) -> Figure:
    """Draw charts with a common x axis below each other."""
    classes = charts[0].classes
    named = 0 < len(classes) <= NAMED
    label = LETTER * max(len(c.name) for c in classes) if named else 0.0
    with style.context(["default", STYLE]):
        width, height = 10.0 if classes else 6.4, 1.0 + 2.4 * len(charts) + label
        figure = _figure(width, height, bottom=BOTTOM + label)
        panels = figure.subplots(len(charts), sharex=True, squeeze=False)[:, 0]
        for axes, chart in zip(panels, charts, strict=True):
            _draw_bars(axes, chart)
        if named:
            panels[-1].set_xticks(range(len(classes)), [c.name for c in classes])
            panels[-1].tick_params(axis="x", length=0, rotation=90, labelsize=8)
        panels[-1].set_xlabel(charts[-1].x_label)
    return figure


def _draw_bars(axes: Axes, chart: BarChart) -> None:
    counts, n = chart.counts.tolist(), max(len(chart.counts), 1)
    _set_texts(axes, chart)
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_xticks([x - 0.5 for x, _ in chart.ticks], [text for _, text in chart.ticks])
    most = max(counts, default=0)
    if chart.log:
        axes.set_yscale("log")
        axes.set_ylim(0.5, 10 ** len(str(max(most, 10) - 1)))  # from 0.5, so that 1 is visible
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=True))
        axes.set_ylim(0, most * 1.02 or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda level, _: short(round(level))))
    least = 0.0 if chart.log else THINNEST * most
    bars = axes.bar(
        range(len(counts)),
        [max(c, least) if c else 0 for c in counts],
        width=0.9 if n <= NAMED else 1,
        color=[css_color(c.color) for c in chart.classes] or ACCENT,
    )
    for bar, c, meaning in zip(bars, counts, chart.meanings, strict=True):
        bar.set_gid(f"{count(c)} {meaning}")
        bar.set_visible(c > 0)


def draw_lines(charts: Sequence[LineChart]) -> Figure:
    """Draw charts side by side, with rings around the best points."""
    with style.context(["default", STYLE]):
        figure = _figure(3.5 * len(charts), 3.2)
        panels = figure.subplots(1, len(charts), squeeze=False, gridspec_kw={"wspace": 0.35})[0]
        for axes, chart in zip(panels, charts, strict=True):
            _set_texts(axes, chart)
            axes.set_xlabel(chart.x_label)
            axes.set_xscale("log")
            axes.set_xticks(chart.ticks, [count(k) for k in chart.ticks])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
            axes.plot([p.x for p in chart.points], [p.y for p in chart.points], color=ACCENT)
            for p in chart.points:
                ring = {"markersize": 11, "fillstyle": "none"} if p.favoured else {"markersize": 4}
                (mark,) = axes.plot(p.x, p.y, "o", color=ACCENT, clip_on=False, **ring)
                mark.set_gid(f"{count(p.x)} classes: {decimal(p.y)}")
            axes.set_ylim(bottom=min([0.0, *(p.y for p in chart.points)]))
    return figure


def draw_maps(maps: Sequence[HeatMap]) -> Figure:
    """Draw the first map large, and up to six more maps small next to it."""
    grid = [[0, 0, 1, 2, 3, "scale"], [0, 0, 4, 5, 6, "scale"]] if maps[1:] else [[0, "scale"]]
    with style.context(["default", STYLE, {"axes.titlepad": 5, "axes.titlesize": 10}]):
        figure = _figure(10.4 if maps[1:] else 4.8, 4.2, left=0.2, right=0.7, bottom=0.2)
        panels = figure.subplot_mosaic(
            [["." if i in range(len(maps), 7) else i for i in row] for row in grid],
            width_ratios=[1] * (len(grid[0]) - 1) + [0.08],
            gridspec_kw={"hspace": 0.3},
        )
        for i, heat_map in enumerate(maps):
            cells, title = coarsen(heat_map.cells), heat_map.title
            image = panels[i].imshow(cells / cells.max(), vmin=0, vmax=1, interpolation="none")
            short_title = title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…"
            panels[i].set_title(f"{short_title}\n{count(heat_map.masks)} masks")
            panels[i].set_axis_off()
        label = "masks in a cell / maximum"
        figure.colorbar(image, cax=panels["scale"], label=label)
    return figure


def to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG with a white background."""
    return _save(figure, "png", dpi=DPI, facecolor="white", metadata={"Software": None})


def to_svg(figure: Figure) -> str:
    """Encode a figure as an SVG element of a page, with tooltips and the colours of the page."""
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    svg = _save(figure, "svg", facecolor="none", metadata=nothing).decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"""<g id=(["'])(\d.*?)\1>""", r"<g><title>\2</title>", svg)
    for pattern in UNUSED:
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    return re.sub("|".join(PAGE_COLORS), lambda color: PAGE_COLORS[color[0]], svg)


def plots(groups: Iterable[Sequence[BarChart]]) -> list[tuple[Sequence[BarChart], str]]:
    """Return each group of charts with its figure as SVG."""
    return [(charts, to_svg(draw_bars(charts))) for charts in groups]


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


def _set_texts(axes: Axes, chart: Chart) -> None:
    axes.set_title(chart.title)
    axes.set_ylabel(chart.y_label)


def _save(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with style.context(["default", STYLE]), warnings.catch_warnings():
        # Class names may be in any script. A letter that the font lacks is a box in a PNG; in the
        # page, the browser has fonts for it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()
