"""The check of a whole store, through the contract alone: what any backend can be asked.

Every record is read by position, by its stream and by its id, and every stream is counted. A backend
looks besides at what only it knows of: columns, segments. Nothing is mended here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rewind.backends.contract import Backend
from rewind.errors import StoreDamaged
from rewind.events import Event, decode_event, own_id_position, own_id_prefix

# A check holds at most so many records, and so many bytes, at a time.
_PAGE = 1_000
_PAGE_BYTES = 4 * 1024 * 1024


def check_records(backend: Backend) -> Iterator[str]:
    """Read everything by position, and find each event again by its stream and its id.

    Yields a line for each thing that is not as it must be.
    """
    head, last_time, _ = backend.last()
    prefix = own_id_prefix(backend.store_id)
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
        for record in page:
            position += 1
            yield from _check_record(backend, record, position, prefix)
            if (now := decode_event(record).recorded_at_ns) < time:
                yield f"position {position} was recorded before the one in front of it"
            time = max(time, now)
    if time != last_time:
        yield f"the last time is {last_time}, but the last record says {time}"
    yield from _check_streams(backend)


def _check_record(backend: Backend, record: bytes, position: int, prefix: bytes) -> Iterator[str]:
    try:
        event: Event = decode_event(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield f"position {position} holds no record: {error}"
        return
    if event.position != position:
        yield f"position {position} holds the record of position {event.position}"
    try:
        if backend.read_stream(event.stream, event.version - 1, event.version, 1, 1) != [record]:
            yield f"stream {event.stream!r} does not lead from version {event.version} to position {position}"
    except StoreDamaged as damage:
        yield str(damage)
    by_id = own_id_position(prefix, event.id_bytes)
    if by_id is None:
        by_id = backend.positions([event.id_bytes]).get(event.id_bytes)
    if by_id != position:
        yield f"id {event.id} leads to position {by_id}, not {position}"


def _check_streams(backend: Backend) -> Iterator[str]:
    after = ""
    total = 0
    while page := backend.streams("", after, _PAGE):
        for name, version in page:
            total += version
            try:
                records = backend.read_stream(name, version - 1, version + 1, 2, _PAGE_BYTES)
            except StoreDamaged as damage:
                yield str(damage)
                continue
            if len(records) != 1:
                yield f"stream {name!r} says version {version}, but its events do not end there"
        after = page[-1][0]
    if total != backend.last().position:
        yield f"the streams count {total} events, the store {backend.last().position}"
