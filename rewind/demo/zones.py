"""What clocks show at the airports one can fly to from New York.

The flights' times are clock times, an arrival's at its destination, and the rows do not say in
which zone that is. So here is what they leave out, for the year 2013: a fact about each airport
that is not in New York's own zone. The tests hold it to the rows: with it no flight of the week is
shorter than its time in the air, and every delay is the difference of the moments it comes from.

A table and not ``zoneinfo``, whose database small systems leave out. Next: flights.py.
"""

from __future__ import annotations

from datetime import timedelta, timezone

NEW_YORK = -5
"""Hours from UTC on New York's clocks in winter, and at every airport not in the table."""

_WEST = {
    -6: """AUS BHM BNA DFW DSM HOU IAH MCI MDW MEM MKE MSN MSP MSY OKC OMA ORD SAT STL TUL XNA""",
    -7: """ABQ BZN DEN EGE HDN JAC MTJ PHX SLC""",
    -8: """BUR LAS LAX LGB OAK PDX PSP SAN SEA SFO SJC SMF SNA""",
    -9: """ANC""",
    -10: """HNL""",
}
_EAST = {-4: """BQN PSE SJU STT"""}
_HOURS = {
    airport: hours for hours, airports in {**_WEST, **_EAST}.items() for airport in airports.split()
}
_NO_SUMMER_TIME = frozenset(["PHX", "HNL", "BQN", "PSE", "SJU", "STT"])

_ZONES = {hours: timezone(timedelta(hours=hours)) for hours in range(-10, -3)}


def zone(airport: str, summer: bool) -> timezone:
    """What clocks at the airport are set to, while New York has summer time or has not."""
    hours = _HOURS.get(airport, NEW_YORK)
    return _ZONES[hours + 1 if summer and airport not in _NO_SUMMER_TIME else hours]
