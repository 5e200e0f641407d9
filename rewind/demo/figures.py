"""Punctuality in numbers, and the same numbers straight from the rows.

``Figures`` is what the projection keeps a carrier. ``count`` makes them from the CSV without any
event, so that the demo can say that its table is right, and not only that it looks right: it shares
nothing with the projection but the names.

Next: punctuality.py (the projection), screen.py (the table).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rewind.demo.flights import Row
from rewind.errors import RewindError

ON_TIME_MINUTES = 15
"""A flight at most so late counts as on time, as is usual in the industry."""

CARRIERS = {
    "9E": "Endeavor",
    "AA": "American",
    "AS": "Alaska",
    "B6": "JetBlue",
    "DL": "Delta",
    "EV": "ExpressJet",
    "F9": "Frontier",
    "FL": "AirTran",
    "HA": "Hawaiian",
    "MQ": "Envoy",
    "OO": "SkyWest",
    "UA": "United",
    "US": "US Airways",
    "VX": "Virgin America",
    "WN": "Southwest",
    "YV": "Mesa",
}


class DemoFailed(RewindError):
    """The demo cannot go on; the message says what was wrong."""

    exit_code = 70


class Figures(msgspec.Struct):
    """Flights of one carrier. ``timed``: arrivals whose delay is known; ``delay_minutes``: the sum of
    their delays."""

    departed: int = 0
    arrived: int = 0
    cancelled: int = 0
    timed: int = 0
    on_time: int = 0
    delay_minutes: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """A projection at a position of the store, while the store's head is ``head``.

    ``at``: ``occurred_at`` of the last flight's event. ``carriers``: code -> figures.
    """

    position: int
    head: int
    at: str
    carriers: dict[str, Figures]


def count(rows: Iterable[Row]) -> dict[str, Figures]:
    """The figures as the rows have them, by carrier."""
    carriers: dict[str, Figures] = {}
    for row in rows:
        figures = carriers.setdefault(row["carrier"], Figures())
        figures.departed += row["dep_time"] != ""
        figures.cancelled += row["dep_time"] == ""
        figures.arrived += row["arr_time"] != ""
        if row["arr_delay"]:
            figures.timed += 1
            figures.on_time += int(row["arr_delay"]) <= ON_TIME_MINUTES
            figures.delay_minutes += int(row["arr_delay"])
    return carriers


def totals(carriers: Iterable[Figures]) -> Figures:
    """The figures of several carriers added up."""
    total = Figures()
    for figures in carriers:
        for name in Figures.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(figures, name))
    return total
