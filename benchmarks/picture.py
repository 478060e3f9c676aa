"""Draw the stages as bars, as an SVG that follows the reader's light or dark theme."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.stages import STAGES

WIDTH, LEFT, RIGHT = 860, 170, 96
BAR, STEP = 22, 34
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 } .soft { fill: #59636e }
.card { fill: #fff; stroke: #d1d9e0 } .axis { stroke: #d1d9e0 }
.s0 { fill: #7a869a } .s1 { fill: #2f6fd0 } .s2 { fill: #2a9d8f } .s3 { fill: #e08a2e }
.s4 { fill: none; stroke: #59636e; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .soft { fill: #9198a1 }
.card { fill: #0d1117; stroke: #3d444d } .axis { stroke: #3d444d }
.s0 { fill: #8d99ae } .s1 { fill: #5b9bf5 } .s2 { fill: #3fb8a9 } .s3 { fill: #f0a24a }
.s4 { stroke: #9198a1 }
}"""


def draw(
    name: str,
    stages: Mapping[str, Mapping[str, float]],
    best: str,
    floors: Mapping[str, float],
) -> str:
    """Draw two panels: the stock at its default and best batch size and ALPS; ALPS and the floor.

    Args:
        name: name of the image.
        stages: seconds of each stage of each peer.
        best: the stock at its best batch size.
        floors: seconds of the matrix products alone.
    """
    ours = {"ours, exact": stages["ours, exact"], "ours, fast": stages["ours, fast"]}
    stock = {"stock, batch 64": stages["stock, batch 64"], best: stages[best]}
    parts = [_text(24, 34, f"Every mask of {name}: CPU seconds of one thread", "title")]
    x = 24.0
    for i, stage in enumerate(STAGES):
        parts.append(f'<rect class="s{i}" x="{x}" y="51" width="12" height="12" rx="2"/>')
        parts.append(_text(x + 18, 62, stage, "soft"))
        x += 44 + 7 * len(stage)
    drawn, y = _panel({**stock, **ours}, {}, 98)
    parts.extend(drawn)
    parts.append(_text(24, y + 24, "ours again, and the matrix products alone (dashed)", "soft"))
    drawn, y = _panel(ours, floors, y + 44)
    parts.extend(drawn)
    height = y + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="CPU seconds by stage"><style>{STYLE}</style>'
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _panel(
    bars: Mapping[str, Mapping[str, float]], floors: Mapping[str, float], y: int
) -> tuple[list[str], int]:
    """Draw stacked bars and outlines of one scale; return where they end."""
    longest = max([sum(bar.values()) for bar in bars.values()] + list(floors.values()))
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = []
    start = y
    for label, bar in bars.items():
        parts.append(_text(LEFT - 12, y + 16, label, anchor="end"))
        x = float(LEFT)
        for i, stage in enumerate(STAGES):
            wide = bar[stage] * scale
            parts.append(
                f'<rect class="s{i}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{BAR}">'
                f"<title>{label}, {stage}: {bar[stage]:.1f} s</title></rect>"
            )
            x += wide
        parts.append(_text(x + 8, y + 16, f"{sum(bar.values()):.0f} s"))
        y += STEP
    for label, seconds in floors.items():
        parts.append(_text(LEFT - 12, y + 16, label, "soft", "end"))
        wide = seconds * scale
        parts.append(
            f'<rect class="s4" x="{LEFT}" y="{y}" width="{wide:.1f}" height="{BAR}"/>'
            + _text(LEFT + wide + 8, y + 16, f"{seconds:.0f} s", "soft")
        )
        y += STEP
    parts.append(f'<path class="axis" d="M{LEFT - 0.5} {start - 6}V{y - 6}"/>')
    return parts, y


def _text(x: float, y: float, content: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{content}</text>'
