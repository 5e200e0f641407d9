"""Appends in one line, and a store of twenty, for tests of what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rewind.backends import open_backend
from rewind.backends.memory import MemoryBackend
from rewind.events import Advance, Append, AppendEvent
from rewind.query import Condition, QueryItem
from rewind.store import Store
from rewind.wire.native import Read


def event(
    stream: str = "s", data: bytes = b"d", id: bytes | None = None, **more: Any
) -> AppendEvent:
    fields = {"type": "t", "tags": (), "metadata": {}, **more}
    return AppendEvent(id, stream, fields["type"], fields["tags"], fields["metadata"], data)


def append(*events: AppendEvent, id: bytes | None = None, **expected: int) -> Append:
    """An append of these events, or of one; ``expected``: stream = version."""
    return Append(events or (event(),), id, expected)


def guarded(
    query: QueryItem | None, after: int = 0, *events: AppendEvent, id: bytes | None = None
) -> Append:
    """An append with a condition: no event matches this item, or any event, behind ``after``."""
    condition = Condition(None if query is None else (query,), after)
    return Append(events or (event(),), id, conditions=(condition,))


def advance(
    events: Sequence[AppendEvent] = (), id: bytes | None = None, **cursors: Advance | int
) -> Append:
    """An append that moves cursors; ``cursors``: name = position, or all of it."""
    places = {
        name: Advance(place) if isinstance(place, int) else place for name, place in cursors.items()
    }
    return Append(tuple(events), id, cursors=places)


def key(number: int) -> bytes:
    """The id of this number, of an event or an append; never of the form a store makes."""
    return b"\x40" + number.to_bytes(15, "big")


def filled(count: int = 20) -> Store:
    """A store in memory with events in two streams, a time, a type and tags to tell them by."""
    ticks = iter(range(1_000, 1_000_000, 10))
    store = Store(MemoryBackend(), clock=lambda: next(ticks))
    for n in range(count):
        stream = "even" if n % 2 == 0 else "odd"
        store.append(
            [append(event(stream, b"%d" % n, type=f"t{n % 3}", tags=(f"g{n % 5}", "all")))]
        )
    return store


def positions(store: Store, **query: Any) -> tuple[list[int], int, bool]:
    """Of one READ: the positions of its events, ``next`` and ``end``."""
    answer = store.read(Read(**query))
    return [event.position for event in answer.events], answer.next, answer.end


def store_unchecked(url: str, *events: AppendEvent) -> None:
    """Store events that the door refuses today, as an earlier release may have taken them."""
    store = Store(open_backend(url))
    store.append([append(*events)])
    store.close()
