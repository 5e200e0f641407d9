"""The goals as a plot: a bar for each store, a mark where the goal is. SVG, written by hand.

The axis is logarithmic: how many times better than what it is compared with; the line at 1 is a
draw. Colours, fonts and sizes are plain, so that it can be read on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.goals import Goal, Ratio, goals, reached, with_limits
from benchmarks.report import Report
from benchmarks.steps import REWIND
from benchmarks.workloads import WORKLOADS

LABELS, WIDTH = 390, 1_000  # pixels: the labels are left of the bars
BAR, GAP, TITLE = 7, 6, 26
LEAST, MOST = 0.05, 50.0  # the ends of the axis; what lies beyond is drawn to its end
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
COLOURS = ("#2f6f9f", "#d08a2e")
MET, MISSED = "#3a9d5d", "#c0392b"


def svg(report: Report) -> str:
    """The plot."""
    measurements = with_limits(report.measurements)
    rows = []
    for goal in goals(report.options):
        ratios = [reached(measurements, goal, name) for name in REWIND]
        if any(ratios):
            rows.append((goal, ratios))
    drawn: list[str] = []
    y, workload = 40, ""
    for goal, ratios in rows:
        if goal.workload != workload:
            workload = goal.workload
            y += TITLE
            said = (WORKLOADS[workload].__doc__ or "").strip()
            drawn.append(_text(8, y - 6, f"{workload}: {said}", weight="bold"))
        drawn += _row(goal, ratios, y)
        y += len(REWIND) * BAR + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 20}"'
            ' font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{y + 20}" fill="#ffffff"/>',
            *_legend(),
            *_axis(y),
            *drawn,
            "</svg>\n",
        ]
    )


def _x(ratio: float) -> float:
    """Where a ratio is on the axis."""
    inside = min(max(ratio, LEAST), MOST)
    share = math.log(inside / LEAST) / math.log(MOST / LEAST)
    return round(LABELS + share * (WIDTH - LABELS - 10), 1)


def _row(goal: Goal, ratios: Sequence[Ratio | None], y: int) -> list[str]:
    """A goal: its label, a bar for each store from the draw, its spread, and the goal's mark."""
    height = len(ratios) * BAR
    drawn = [_text(LABELS - 8, y + height - 3, goal.title, anchor="end")]
    for number, (ratio, colour) in enumerate(zip(ratios, COLOURS, strict=True)):
        if ratio is None:
            continue
        top = y + number * BAR
        left, right = sorted((_x(1), _x(ratio.median)))
        title = f"{REWIND[number]}: {ratio}"
        drawn.append(
            f'<rect x="{left}" y="{top}" width="{max(1.0, right - left):.1f}" height="{BAR - 1}"'
            f' fill="{colour}"><title>{escape(title)}</title></rect>'
        )
        middle = top + BAR / 2 - 0.5
        drawn.append(_line(_x(ratio.least), middle, _x(ratio.most), middle, "#444444"))
    met = all(ratio.median >= goal.at_least for ratio in ratios if ratio is not None)
    mark = _x(goal.at_least)
    drawn.append(_line(mark, y - 2, mark, y + height + 1, MET if met else MISSED, 3))
    return drawn


def _axis(bottom: int) -> list[str]:
    drawn = []
    for tick in TICKS:
        colour = "#888888" if tick == 1 else "#e2e2e2"
        drawn.append(_line(_x(tick), 44, _x(tick), bottom, colour))
        drawn.append(_text(_x(tick), bottom + 14, f"{tick:g}", anchor="middle"))
    return drawn


def _legend() -> list[str]:
    drawn = [_text(8, 18, "How many times better, and the goal", weight="bold")]
    x = LABELS
    for name, colour in zip(REWIND, COLOURS, strict=True):
        drawn.append(f'<rect x="{x}" y="10" width="12" height="8" fill="{colour}"/>')
        drawn.append(_text(x + 17, 18, name))
        x += 120
    for name, colour in (("goal, met by both", MET), ("goal, missed by one", MISSED)):
        drawn.append(_line(x + 4, 8, x + 4, 20, colour, 3))
        drawn.append(_text(x + 12, 18, name))
        x += 130
    return drawn


def _text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="#222222">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"'
        f' stroke-width="{width:g}"/>'
    )
