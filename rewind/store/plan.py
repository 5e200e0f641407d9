"""What becomes of appends: a pure function from appends and what is known to records and outcomes.

``plan`` decides retries, conflicts, expected versions, positions and times. It touches nothing: no
backend, no clock. What it has to know is gathered by the store, which also commits what it planned.

Not here: whether an append is well formed (checks.py, at the door), and free space (space.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rewind.errors import (
    BadRequest,
    IdConflict,
    Internal,
    RequestError,
    StoreDamaged,
    WrongExpectedVersion,
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


class Known(msgspec.Struct):
    """What a plan has to know of the store before the appends.

    ``versions``: of every stream the appends write to or expect. ``appends``: first and last
    position of the append ids known. ``positions``: of the event ids known. ``stored``: the stored
    events from a first to a last position, asked only to compare a retry.
    """

    head: int
    last_time_ns: int
    own_prefix: bytes
    versions: Mapping[str, int]
    appends: Mapping[bytes, tuple[int, int]]
    positions: Mapping[bytes, int]
    stored: Callable[[int, int], list[Event]]


class Plan:
    """What to commit, and how each append ended: ``Appended`` or the error that refused it."""

    def __init__(self, known: Known, durability: str) -> None:
        self.records: list[Record] = []
        self.append_ids: list[tuple[bytes, int, int]] = []
        self.outcomes: list[Appended | RequestError] = []
        self.versions = dict(known.versions)
        self._durability = durability
        self._known = known
        self._appends: dict[bytes, tuple[int, int]] = {}
        self._positions: dict[bytes, int] = {}

    def find(self, append: Append) -> list[Event]:
        """The events of this append if it is known; none if it is new.

        Raises ``IdConflict`` when its ids are known in another way.
        """
        span = None
        if append.id is not None:
            span = self._appends.get(append.id) or self._known.appends.get(append.id)
        if span is None and append.events[0].id is not None:
            span = self._find_by_event_ids(append)
        if span is None:
            return []
        first, last = span
        if last - first + 1 != len(append.events):
            raise IdConflict(
                f"this append id is known with {last - first + 1} events, not {len(append.events)}"
            )
        return self._events(first, last)

    def _find_by_event_ids(self, append: Append) -> tuple[int, int] | None:
        found = [self._position(event.id or b"") for event in append.events]
        if not any(found):
            return None
        if 0 in found:
            raise IdConflict(
                f"{len(found) - found.count(0)} of the {len(found)} event ids are known already: "
                "an append is retried whole"
            )
        first, last = found[0], found[-1]
        if found != list(range(first, first + len(found))) or first <= self._known.head < last:
            raise IdConflict(
                "the event ids are known, but not as neighbours stored in this order by one commit"
            )
        if append.id is not None:
            self._appends[append.id] = (first, last)
        return first, last

    def _position(self, id: bytes) -> int:
        """Where the event with this id is; 0 if it is new."""
        own = own_id_position(self._known.own_prefix, id)
        if own is None:
            return self._positions.get(id) or self._known.positions.get(id, 0)
        planned_last = self._known.head + len(self.records)
        if not 0 < own <= planned_last or self._events(own, own)[0].id_bytes != id:
            raise BadRequest(
                f"event id {uuid.UUID(bytes=id)} is of the form this store makes itself, and it has "
                "not made this one: choose another, a random UUID for example"
            )
        return own

    def _events(self, first: int, last: int) -> list[Event]:
        """Events of one append, stored or planned before."""
        planned = first - self._known.head - 1
        if planned < 0:
            return self._known.stored(first, last)
        return [record.event for record in self.records[planned : planned + last - first + 1]]

    def add(self, append: Append, now_ns: int) -> Appended:
        """Give every event its place."""
        prefix = self._known.own_prefix
        first = self._known.head + len(self.records) + 1
        versions = self.versions
        made = []
        for position, event in enumerate(append.events, first):
            version = versions[event.stream] = versions.get(event.stream, 0) + 1
            id = event.id
            if id is None:
                id = own_id(prefix, position)
                made.append(id)
            else:
                self._positions[id] = position
            self.records.append(
                make_record(event, position=position, recorded_at_ns=now_ns, id=id, version=version)
            )
        last = first + len(append.events) - 1
        if append.id is not None:
            self._appends[append.id] = (first, last)
            self.append_ids.append((append.id, first, last))
        touched = {event.stream: versions[event.stream] for event in append.events}
        return Appended(first, last, tuple(made), touched, False, self._durability)

    def repeat(self, append: Append, events: Sequence[Event]) -> Appended:
        """The first answer again. Raises ``IdConflict`` unless the content is the same."""
        for index, (event, stored) in enumerate(zip(append.events, events, strict=True)):
            own = own_id_position(self._known.own_prefix, stored.id_bytes) is not None
            same_id = event.id == stored.id_bytes or (event.id is None and own)
            if not same_id or not same_content(event, stored):
                raise IdConflict(
                    f"events[{index}]: this id is known with other content, "
                    f"at position {stored.position}"
                )
        made = () if append.events[0].id else tuple(stored.id_bytes for stored in events)
        versions = {stored.stream: stored.version for stored in events}
        return Appended(
            events[0].position, events[-1].position, made, versions, True, self._durability
        )


def plan(appends: Sequence[Append], known: Known, now_ns: int, durability: str) -> Plan:
    """Decide what becomes of these appends, in their order.

    Each is all or nothing and independent of the others, except that it sees what the ones in
    front of it did. Retries are looked at before expected versions: a repeated append would
    otherwise fail on the version it made itself.
    """
    now_ns = max(now_ns, known.last_time_ns)
    result = Plan(known, durability)
    for append in appends:
        try:
            outcome: Appended | RequestError = _plan_one(result, append, now_ns)
        except RequestError as refused:
            outcome = refused
        except StoreDamaged as damage:  # in an event of a retry, which concerns nobody else
            outcome = Internal(f"cannot compare with what is stored: {damage}")
        result.outcomes.append(outcome)
    return result


def _plan_one(result: Plan, append: Append, now_ns: int) -> Appended:
    known = result.find(append)
    if known:
        return result.repeat(append, known)
    for stream, expected in append.expected.items():
        actual = result.versions.get(stream, 0)
        if expected != actual and not (expected == STREAM_EXISTS and actual > 0):
            raise WrongExpectedVersion(stream, expected, actual)
    return result.add(append, now_ns)


def same_content(event: AppendEvent, stored: Event) -> bool:
    """Whether a retried event says what the stored one says (``$`` metadata aside)."""
    return (
        event.stream == stored.stream
        and event.type == stored.type
        and event.data == stored.data
        and tuple(event.tags) == stored.tags
        and _own_metadata(event.metadata) == _own_metadata(stored.metadata)
    )


_encode_sorted = msgspec.msgpack.Encoder(order="sorted").encode


def _own_metadata(metadata: dict[str, Any]) -> bytes:
    # Encoded, because Python holds 1 == 1.0 == True; sorted, because a map has no order.
    return _encode_sorted({key: metadata[key] for key in metadata if not key.startswith("$")})
