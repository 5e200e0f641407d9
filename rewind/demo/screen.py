"""A table drawn in place on a terminal, and one line now and then elsewhere.

Two control sequences are all it takes (ECMA-48: CUU moves up, ED erases from there to the end of
the screen). A terminal that is not as high as the table gets the lines as well.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TextIO

from rewind.demo.figures import CARRIERS, Figures, Snapshot, totals

LINE_EVERY_S = 2.0  # without a terminal, more lines would say no more


class Screen:
    """Where a table is shown again and again. The last line of a table says it all in short."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._height = 0
        self._line_due_s = 0.0

    def show(self, lines: Sequence[str]) -> bool:
        """Draw the table over what was drawn before, or print its last line if one is due.

        Returns whether it was shown.
        """
        if self._in_place(len(lines)):
            self._draw(lines)
            return True
        if time.monotonic() < self._line_due_s:
            return False
        self._line_due_s = time.monotonic() + LINE_EVERY_S
        self._out.write(lines[-1] + "\n")
        self._out.flush()
        return True

    def finish(self, lines: Sequence[str]) -> None:
        """Print the whole table, for good."""
        self._draw(lines)
        self._height = 0

    def _draw(self, lines: Sequence[str]) -> None:
        over = f"\x1b[{self._height}A\x1b[J" if self._height else ""
        self._out.write(over + "".join(line + "\n" for line in lines))
        self._out.flush()
        self._height = len(lines)

    def _in_place(self, height: int) -> bool:
        if not self._out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            return False
        columns, rows = shutil.get_terminal_size()
        return rows > height and columns >= WIDTH


COLUMNS = (
    f"{'carrier':<19}{'departed':>9}{'arrived':>9}{'cancelled':>11}{'on time':>9}{'avg. delay':>12}"
)
WIDTH = len(COLUMNS)


def table(snapshot: Snapshot) -> list[str]:
    """The punctuality of every carrier, the busiest first, and how far it is as the last line."""
    busiest = sorted(snapshot.carriers.items(), key=lambda item: (-item[1].departed, item[0]))
    total = totals(snapshot.carriers.values())
    return [
        COLUMNS,
        *(_line(f"{code} {CARRIERS.get(code, '')}", figures) for code, figures in busiest),
        _line("all", total),
        _progress(snapshot, total),
    ]


def _line(name: str, figures: Figures) -> str:
    share = average = "-"
    if figures.timed:
        share = f"{figures.on_time / figures.timed:.1%}"
        average = f"{figures.delay_minutes / figures.timed:+.1f} min"
    return (
        f"{name:<19}{figures.departed:>9,}{figures.arrived:>9,}{figures.cancelled:>11,}"
        f"{share:>9}{average:>12}"
    )


def _progress(snapshot: Snapshot, total: Figures) -> str:
    at = f"{datetime.fromisoformat(snapshot.at):%a %d %b %H:%M}" if snapshot.at else "nothing yet"
    missing = max(0, snapshot.head - snapshot.position)
    behind = f"{missing:,} behind" if missing else "caught up"
    return f"{at}   {snapshot.position:,} events in, {behind}; {total.departed:,} flights departed"
