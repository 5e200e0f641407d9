"""What was found, as tables on a terminal, as a page for the docs, and as JSON for machines.

Absolute figures are medians of the rounds. A ratio is the median of the rounds' ratios, with the
least and the most in brackets; see goals.py. The plot is in plot.py.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.goals import Goal, compare, goals, number, reached, with_limits
from benchmarks.steps import REWIND, Measurement, Options
from benchmarks.workloads import WORKLOADS

FIGURES = {
    "rate": "a second",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "delivered": "delivered",
    "cpu": "processors",
    "open_s": "open s",
    "anon_mb": "memory MB",
}
"""The figures that are shown, and how they are headed. The first one there is compared."""


@dataclass(frozen=True)
class Report:
    """A run of the benchmark."""

    date: str
    took_s: float
    machine: dict[str, object]
    options: Options
    versions: dict[str, str]
    notes: dict[str, str]
    left_out: dict[str, str]
    fill_rates: dict[str, float]
    measurements: Sequence[Measurement]


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


# --- tables -------------------------------------------------------------------------


def tables(report: Report) -> list[Table]:
    """A table for each workload, and the goals."""
    measurements = with_limits(report.measurements)
    result = []
    for workload, steps in WORKLOADS.items():
        of_it = [one for one in measurements if one.workload == workload]
        if of_it:
            title = f"{workload}: {(steps.__doc__ or '').strip().rstrip('.')}"
            result.append(_workload(title, of_it, report.notes))
    reviewed = [_review(measurements, goal) for goal in goals(report.options)]
    rows = [row for row in reviewed if row is not None]
    return [*result, Table("Goals", ("", "what", "goal", *REWIND, ""), rows)]


def _workload(title: str, measurements: Sequence[Measurement], notes: dict[str, str]) -> Table:
    figures = [name for name in FIGURES if any(name in one.figures for one in measurements)]
    header = ("case", "system", *(FIGURES[name] for name in figures))
    header += tuple(f"{name} is x times" for name in REWIND)
    rows = []
    for case, name in dict.fromkeys((one.case, one.system) for one in _sorted(measurements)):
        of_it = [one for one in measurements if (one.case, one.system) == (case, name)]
        cells = [_median(of_it, figure) for figure in figures]
        compared = next((figure for figure in figures if figure in of_it[0].figures), "rate")
        workload = of_it[0].workload
        for store in REWIND:
            ours, theirs = (workload, case, store), (workload, case, name)
            ratio = compare(measurements, compared, ours, theirs)
            cells.append("" if ratio is None or name == store else str(ratio))
        label = " (memory)" * notes.get(name, "").startswith("memory")
        rows.append((case, name + label, *cells))
    return Table(title, header, rows)


def _sorted(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Case by case as they came, in each the systems by name, Rewind's first."""
    cases = list(dict.fromkeys(one.case for one in measurements))
    return sorted(
        measurements,
        key=lambda one: (cases.index(one.case), not one.system.startswith("rewind"), one.system),
    )


def _median(measurements: Sequence[Measurement], figure: str) -> str:
    values = [one.figures[figure] for one in measurements if figure in one.figures]
    return number(statistics.median(values)) if values else ""


def _review(measurements: Sequence[Measurement], goal: Goal) -> tuple[str, ...] | None:
    ratios = [reached(measurements, goal, name) for name in REWIND]
    if not any(ratios):
        return None
    met = [ratio.median >= goal.at_least for ratio in ratios if ratio is not None]
    verdict = "met" if all(met) else "missed" if not any(met) else "partly"
    cells = ["" if ratio is None else str(ratio) for ratio in ratios]
    return goal.workload, goal.title, f"{goal.at_least:g}", *cells, verdict


def text(report: Report) -> str:
    """For a terminal."""
    lines = []
    for table in tables(report):
        widths = [
            max(len(row[column]) for row in (table.header, *table.rows))
            for column in range(len(table.header))
        ]
        lines += ["", table.title]
        for row in (table.header, *table.rows):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
    lines += ["", *(f"{name}: {note}" for name, note in report.notes.items() if note)]
    lines += [f"left out: {name}: {why}" for name, why in report.left_out.items()]
    return "\n".join(lines)


# --- the docs -----------------------------------------------------------------------


def rst(report: Report) -> str:
    """The tables, for docs/benchmarks.rst to include."""
    of = report.machine
    lines = [
        ".. Written by python -m benchmarks --rst; do not edit.",
        "",
        f"Measured {report.date} in {report.took_s / 60:.0f} minutes, {report.options.rounds} rounds "
        f"of {report.options.seconds:g} seconds, on {of['cpus']} processors ({of['cpu']}), "
        f"{of['memory_gib']} GiB of memory, {of['system']} {of['kernel']}, {of['file_system']}, "
        f"Python {of['python']}.",
        "",
        "Software: " + ", ".join(f"{name} {it}" for name, it in report.versions.items()) + ".",
        "",
    ]
    lines += [
        f"Left out: {name}: {' '.join(why.split())}\n" for name, why in report.left_out.items()
    ]
    for table in tables(report):
        lines += ["", table.title, "-" * len(table.title), "", ".. list-table::"]
        lines += ["   :header-rows: 1", ""]
        for row in (table.header, *table.rows):
            for column, cell in enumerate(row):
                lines.append(f"   {'*' if column == 0 else ' '} - {cell}".rstrip())
        lines.append("")
    return "\n".join(lines)


# --- machines -----------------------------------------------------------------------


def as_json(report: Report) -> str:
    """Everything, every round."""
    return json.dumps(asdict(report), indent=1)
