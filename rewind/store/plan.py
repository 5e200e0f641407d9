"""What becomes of appends: a pure function from appends and what is known to records and outcomes.

``plan`` decides retries, conflicts, expected versions, positions and times, and applies the rules of
conditions (conditions.py) and cursors (cursors.py). It touches nothing: no backend, no clock. The store
gathers what it has to know, and commits what it planned.

What an append answers does not depend on the batch that it comes in: whatever an append in front of it
added counts as stored, in every rule here.

Not here: whether an append is well formed (checks.py, at the door), and free space (space.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rewind.backends.contract import Found
from rewind.errors import (
    BadRequest,
    IdConflict,
    Internal,
    RequestError,
    StoreDamaged,
    WrongExpectedVersion,
    one_line,
    without_traceback,
)
from rewind.events import (
    STREAM_EXISTS,
    Append,
    Appended,
    AppendEvent,
    Event,
    Record,
    make_record,
    own_id,
    own_id_position,
)
from rewind.query import QueryItem
from rewind.store.conditions import EventIndex, FirstMatch, check_condition
from rewind.store.cursors import marks_of, moves


def plan(appends: Sequence[Append], facts: Facts, now_ns: int, durability: str) -> Plan:
    """Decide what becomes of these appends, in their order.

    Each is all or nothing and independent of the others, except that it sees what the ones in
    front of it did. Retries are looked at first: a repeated append would otherwise fail on what it has
    brought about itself. Expected versions follow, then conditions, then cursors.
    """
    now_ns = max(now_ns, facts.last_time_ns)
    result = Plan(facts, durability)
    for append in appends:
        try:
            outcome: Appended | RequestError = _plan_one(result, append, now_ns)
        except RequestError as refused:
            outcome = without_traceback(refused)
            result.refused = True
        except StoreDamaged as damage:
            # A retry is compared with what is damaged, which is this append's alone.
            outcome = refusal_of(damage)
            result.damages.append(damage)
            result.refused = True
        result.outcomes.append(outcome)
    if result.moved:
        result.marks = marks_of(result.moved, now_ns)
    result.check()
    return result


def _plan_one(result: Plan, append: Append, now_ns: int) -> Appended:
    first_time = result.find(append)
    if first_time:
        appended = result.repeat(append, first_time)
        if append.cursors:
            result.move_lagging(append)
        return appended
    for stream, expected in append.expected.items():
        actual = result.versions.get(stream, 0)
        if expected != actual and not (expected == STREAM_EXISTS and actual > 0):
            raise WrongExpectedVersion(stream, expected, actual)
    if append.conditions:
        result.check_conditions(append)
    if append.cursors:
        result.move(append)
    return result.add(append, now_ns)


class Facts(msgspec.Struct):
    """What a plan has to know of the store before the appends.

    ``head``, ``last_time_ns``: position and time of the last event. ``own_prefix``: how ids of the
    store's own making begin. ``versions``: of every stream the appends write to or expect; 0 may be
    left out. ``appends``: first and last position of those of their append ids that are known.
    ``positions``: of those of their event ids that are known. ``stored``: the stored events from a
    first to a last position, asked only to compare a retry. ``cursors``: where those that the appends
    move are, if they exist. ``first_match``: the first stored event that matches a query behind a
    position, asked only for conditions.
    """

    head: int
    last_time_ns: int
    own_prefix: bytes
    versions: Mapping[str, int]
    appends: Mapping[bytes, tuple[int, int]]
    positions: Mapping[bytes, int]
    stored: Callable[[int, int], list[Event]]
    cursors: Mapping[str, int]
    first_match: FirstMatch


class Plan:
    """What to commit, and how each append ended: ``Appended`` or the error that refused it.

    ``append_ids``: (append id, first position, last position) of the new appends that have one.
    ``marks``: of the cursors that change, one each, however often it was moved. ``versions``: of the
    streams after all of it. ``refused``: whether an append was refused. ``damages``: what appends were
    refused for with ``Internal``.
    """

    def __init__(self, facts: Facts, durability: str) -> None:
        self.records: list[Record] = []
        self.append_ids: list[tuple[bytes, int, int]] = []
        self.outcomes: list[Appended | RequestError] = []
        self.refused = False
        self.damages: list[StoreDamaged] = []
        self.marks: dict[str, bytes | None] = {}
        self.moved: dict[str, int | None] = {}  # Cursors that change, and where they are then.
        self.versions = dict(facts.versions)
        self._facts = facts
        self._durability = durability
        self._appends: dict[bytes, tuple[int, int]] = {}
        self._positions: dict[bytes, int] = {}
        self._asked: dict[tuple[Sequence[QueryItem], int], Found] = {}
        self._index: EventIndex | None = None  # Of the records, as far as conditions were asked.

    @property
    def head(self) -> int:
        """The head in front of the next append."""
        return self._facts.head + len(self.records)

    # Retries

    def find(self, append: Append) -> list[Event]:
        """The events of this append if it was done before; none if it is new.

        Raises ``IdConflict`` when its ids are known in another way.
        """
        if not append.events:
            return []
        span = None
        if append.id is not None:
            span = self._appends.get(append.id) or self._facts.appends.get(append.id)
        if span is None and append.events[0].id is not None:
            span = self._span_of_event_ids(append)
        if span is None:
            return []
        first, last = span
        if last - first + 1 != len(append.events):
            raise IdConflict(
                f"this append id is known with {last - first + 1} events, not {len(append.events)}"
            )
        return self._events(first, last)

    def _span_of_event_ids(self, append: Append) -> tuple[int, int] | None:
        """First and last position of the events with these ids; None if all of them are new."""
        positions = [self._position(event.id or b"") for event in append.events]
        if not any(positions):
            return None
        known = sum(position > 0 for position in positions)
        if not known:
            self._check_own_ids(append, positions)
            return None
        count = len(positions)
        if known < count:
            raise IdConflict(
                f"{known} of the {count} event ids are known already: an append is retried whole"
            )
        first = positions[0]
        if positions != list(range(first, first + count)):
            raise IdConflict("the event ids are known, but not as neighbours stored in this order")
        return first, positions[-1]

    def _position(self, id: bytes) -> int:
        """The position of the event with this id. If it is new: 0, or less, see ``_check_own_ids``."""
        own = own_id_position(self._facts.own_prefix, id)
        if own is None:
            return self._positions.get(id) or self._facts.positions.get(id, 0)
        if own > self.head:
            return -own
        if own == 0 or self._events(own, own)[0].id_bytes != id:
            raise BadRequest(
                f"event id {uuid.UUID(bytes=id)} is of the form this store makes itself, and it has "
                "not made this one: choose another, a random UUID for example"
            )
        return own

    def _check_own_ids(self, append: Append, positions: Sequence[int]) -> None:
        """Refuse new events with ids of the store's own form, unless each gets the position in its id.

        ``positions``: less 0 is such an id's. They come from a copy of this store that is longer, and
        need no index entry here, as they did not there.
        """
        first = self.head + 1
        for place, (event, position) in enumerate(
            zip(append.events, positions, strict=True), first
        ):
            if position not in (0, -place):
                raise BadRequest(
                    f"event id {uuid.UUID(bytes=event.id)} is of the form this store makes itself, for "
                    f"position {-position} alone, and the event would be at position {place}: choose "
                    "another, a random UUID for example, or append what is missing in between first"
                )

    def _events(self, first: int, last: int) -> list[Event]:
        """Neighbouring events, which are stored or were planned before this append, or some of each."""
        head = self._facts.head
        events = self._facts.stored(first, min(last, head)) if first <= head else []
        if last > head:
            events += [
                record.event for record in self.records[max(first - head - 1, 0) : last - head]
            ]
        if len(events) != last - first + 1:
            raise StoreDamaged(f"an id leads to positions {first} to {last}, which do not exist")
        return events

    def repeat(self, append: Append, events: Sequence[Event]) -> Appended:
        """The first answer again. Raises ``IdConflict`` unless the content is the same."""
        for index, (event, stored) in enumerate(zip(append.events, events, strict=True)):
            own = own_id_position(self._facts.own_prefix, stored.id_bytes) is not None
            same_id = event.id == stored.id_bytes or (event.id is None and own)
            if append.id is None and not same_id:
                raise StoreDamaged(
                    f"the id {uuid.UUID(bytes=event.id)} leads to position {stored.position}, "
                    "where another event is"
                )
            if not same_id or not same_content(event, stored):
                raise IdConflict(
                    f"events[{index}]: this id is known with other content, "
                    f"at position {stored.position}"
                )
        own_ids = () if append.events[0].id else tuple(stored.id_bytes for stored in events)
        versions = {stored.stream: stored.version for stored in events}
        return Appended(
            events[0].position, events[-1].position, own_ids, versions, True, self._durability
        )

    # Conditions and cursors

    def check_conditions(self, append: Append) -> None:
        """Raise what the first condition says that does not hold: see conditions.py."""
        for index, condition in enumerate(append.conditions):
            check_condition(index, condition, self.head, self._first_match)

    def _first_match(self, items: Sequence[QueryItem], after: int) -> Found:
        """The first event that matches behind a position, stored or planned before this append."""
        head = self._facts.head
        if after < head:
            found = self._asked.get((items, after))
            if found is None:
                found = self._asked[items, after] = self._facts.first_match(items, after)
            if found.positions or found.reached < head:
                return found
        index = self._index
        if index is None:
            index = self._index = EventIndex(head)
        for record in self.records[index.until - head :]:
            index.add(record.event)
        return index.first(items, max(after, head))

    def move(self, append: Append) -> None:
        """Move the cursors of an append, all or none. Raises what the first says that cannot: cursors.py."""
        head, beside_events = self.head, bool(append.events)
        self.moved |= {
            name: advance.position
            for name, advance in append.cursors.items()
            if moves(name, advance, self._cursor(name), head, beside_events)
        }

    def move_lagging(self, append: Append) -> None:
        """Move the cursors of a repeated append that have not come as far as it says."""
        for name, advance in append.cursors.items():
            position = advance.position
            if position is not None and (self._cursor(name) or 0) < position <= self.head:
                self.moved[name] = position

    def _cursor(self, name: str) -> int | None:
        return self.moved[name] if name in self.moved else self._facts.cursors.get(name)

    # What is new

    def add(self, append: Append, now_ns: int) -> Appended:
        """Give every event its position, version, time and, unless it brings one, its id."""
        if not append.events:
            return Appended(0, 0, (), {}, False, self._durability)
        prefix = self._facts.own_prefix
        first = self._facts.head + len(self.records) + 1
        versions = self.versions
        own_ids = []
        for position, event in enumerate(append.events, first):
            version = versions[event.stream] = versions.get(event.stream, 0) + 1
            id = event.id
            if id is None:
                id = own_id(prefix, position)
                own_ids.append(id)
            else:
                self._positions[id] = position
            self.records.append(
                make_record(event, position=position, recorded_at_ns=now_ns, id=id, version=version)
            )
        last = first + len(append.events) - 1
        if append.id is not None:
            self._appends[append.id] = (first, last)
            self.append_ids.append((append.id, first, last))
        written = {event.stream: versions[event.stream] for event in append.events}
        return Appended(first, last, tuple(own_ids), written, False, self._durability)

    def check(self) -> None:
        """Assert that positions and versions go on without a hole."""
        if not self.records:
            return
        head, count = self._facts.head, len(self.records)
        assert self.records[0].event.position == head + 1
        assert self.records[-1].event.position == head + count
        assert sum(self.versions.values()) == sum(self._facts.versions.values()) + count


def refusal_of(damage: StoreDamaged) -> Internal:
    """How a request is refused, alone, that needs what is damaged."""
    return Internal(
        f"the store is damaged there: {one_line(str(damage))}. Check the store and restore it from a "
        "copy; what does not need that place goes on"
    )


def same_content(event: AppendEvent, stored: Event) -> bool:
    """Whether a retried event says what the stored one says (``$`` metadata aside)."""
    return (
        event.stream == stored.stream
        and event.type == stored.type
        and event.data == stored.data
        and tuple(event.tags) == stored.tags
        and _encode_client_metadata(event.metadata) == _encode_client_metadata(stored.metadata)
    )


_encode_sorted = msgspec.msgpack.Encoder(order="sorted").encode


def _encode_client_metadata(metadata: dict[str, Any]) -> bytes:
    # It is compared encoded, because Python holds 1 == 1.0 == True, and sorted, because a map has
    # no order.
    return _encode_sorted({key: metadata[key] for key in metadata if not key.startswith("$")})
