"""The check of a whole store, through the contract alone: what any backend can be asked.

Every record is read by position, by its stream and by its id, and is looked for by its type, tags and
category; every stream and every name is counted, so that nothing leads to an event that it should not.
A backend looks besides at what only it knows of: columns, segments. Nothing is mended here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from rewind.backends.contract import Backend
from rewind.errors import StoreDamaged
from rewind.events import Event, decode_event, own_id_position, own_id_prefix
from rewind.query import NAME_KINDS, QueryItem, category_of

#: Kind of name, name -> the positions of its events in a page, in order.
Positions = dict[tuple[str, str], list[int]]

# A check holds at most so many records, and so many bytes, at a time.
_PAGE = 1_000
_PAGE_BYTES = 4 * 1024 * 1024

_CURSOR = "cursor:"  # Marks with this prefix hold what store/cursors.py says.
_decode_cursor = msgspec.msgpack.Decoder(tuple[int, int]).decode


def check_records(backend: Backend) -> Iterator[str]:
    """Read everything by position, and find each event again by its stream, its id and its names.

    Yields a line for each thing that is not as it must be.
    """
    head, last_time, _ = backend.last()
    prefix = own_id_prefix(backend.store_id)
    counts = dict.fromkeys(NAME_KINDS, 0)
    position = time = 0
    while position < head:
        try:
            page = backend.read(position, head, _PAGE, _PAGE_BYTES)
        except StoreDamaged as damage:
            yield str(damage)
            return
        if not page:
            yield f"position {position + 1} is missing"
            return
        after, expected = position, defaultdict[tuple[str, str], list[int]](list)
        for record in page:
            position += 1
            try:
                event: Event = decode_event(record)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield f"position {position} holds no record: {error}"
                continue
            yield from _check_record(backend, event, record, position, prefix)
            if event.recorded_at_ns < time:
                yield f"position {position} was recorded before the one in front of it"
            time = max(time, event.recorded_at_ns)
            for name in _names_of(event):
                expected[name].append(position)
        yield from _check_positions(backend, expected, after, position, counts)
    if time != last_time:
        yield f"the last time is {last_time}, but the last record says {time}"
    yield from _check_streams(backend)
    for kind, count in counts.items():
        yield from _check_names(backend, kind, count)
    yield from _check_marks(backend)


def _check_record(
    backend: Backend, event: Event, record: bytes, position: int, prefix: bytes
) -> Iterator[str]:
    if event.position != position:
        yield f"position {position} holds the record of position {event.position}"
    try:
        if backend.read_stream(event.stream, event.version - 1, event.version, 1, 1) != [record]:
            yield f"stream {event.stream!r} does not lead from version {event.version} to position {position}"
    except StoreDamaged as damage:
        yield str(damage)
    by_id = own_id_position(prefix, event.id_bytes)
    if by_id is None:
        try:
            by_id = backend.positions([event.id_bytes]).get(event.id_bytes)
        except StoreDamaged as damage:
            yield str(damage)
            return
    if by_id != position:
        yield f"id {event.id} leads to position {by_id}, not {position}"


def _check_streams(backend: Backend) -> Iterator[str]:
    after = ""
    total = 0
    try:
        while page := backend.streams("", after, _PAGE):
            for name, version in page:
                total += version
                yield from _check_stream(backend, name, version)
            after = page[-1][0]
    except StoreDamaged as damage:
        yield str(damage)
        return
    if total != backend.last().position:
        yield f"the streams count {total} events, the store {backend.last().position}"


def _check_stream(backend: Backend, name: str, version: int) -> Iterator[str]:
    try:
        records = backend.read_stream(name, version - 1, version + 1, 2, _PAGE_BYTES)
    except StoreDamaged as damage:
        yield str(damage)
        return
    if len(records) != 1:
        yield f"stream {name!r} says version {version}, but its events do not end there"


def _names_of(event: Event) -> list[tuple[str, str]]:
    """Kind and name of each that an event has."""
    tags = [("tag", tag) for tag in set(event.tags)]
    return [("type", event.type), ("category", category_of(event.stream)), *tags]


def _item(kind: str, name: str) -> QueryItem:
    fields = {"type": "types", "tag": "tags", "category": "categories"}
    return QueryItem(**{fields[kind]: (name,)})


def _check_positions(
    backend: Backend, expected: Positions, after: int, until: int, counts: dict[str, int]
) -> Iterator[str]:
    """Compare where the names of a page lead, within it, with where they should, and count that."""
    for (kind, name), positions in expected.items():
        counts[kind] += len(positions)
        try:
            found = set(_positions(backend, kind, name, after, until))
        except StoreDamaged as damage:
            yield str(damage)
            continue
        if lacks := sorted(set(positions) - found):
            yield f"{kind} {name!r} does not lead to position {lacks[0]}"
        if wrong := sorted(found.difference(positions)):
            yield f"{kind} {name!r} leads to position {wrong[0]}, which has it not"


def _positions(backend: Backend, kind: str, name: str, after: int, until: int) -> Iterator[int]:
    items = [_item(kind, name)]
    while after < until:
        found = backend.matching(items, after, until, _PAGE)
        yield from found.positions
        after = found.reached


def _check_names(backend: Backend, kind: str, count: int) -> Iterator[str]:
    """Every name leads somewhere, says its last position, and all together lead to what there is."""
    head = backend.last().position
    total = 0
    after: str | None = None
    try:
        while page := backend.names(kind, "", after, _PAGE):
            for name, last in page:
                found = 0
                for position in _positions(backend, kind, name, 0, head):
                    found = position
                    total += 1
                if found != last:
                    yield f"{kind} {name!r} says position {last}, but its last event is at {found}"
            after = page[-1][0]
    except StoreDamaged as damage:
        yield str(damage)
        return
    if total != count:
        yield f"the names of kind {kind} lead to {total} events, and should to {count}"


def _check_marks(backend: Backend) -> Iterator[str]:
    head, _, number = backend.last()
    some = head > 0
    after = ""
    try:
        while page := backend.marks_from("", after, _PAGE):
            some = True
            known = backend.marks([name for name, _ in page])
            for name, value in page:
                if known.get(name) != value:
                    yield f"mark {name!r} is listed with another value than it is found with"
                if name.startswith(_CURSOR) and not _is_cursor(value, head):
                    yield f"mark {name!r} is no position of a cursor: {value.hex()}"
            after = page[-1][0]
    except StoreDamaged as damage:
        yield str(damage)
    if some and number < 1:
        yield f"the last commit has the number {number}"


def _is_cursor(value: bytes, head: int) -> bool:
    """Whether a cursor may be there: a position of this store, and when it was put there."""
    try:
        position, updated_at_ns = _decode_cursor(value)
    except msgspec.DecodeError:
        return False
    return 0 <= position <= head and updated_at_ns >= 0
