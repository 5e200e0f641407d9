"""What every backend does alike with records: take a bounded page, and check a whole store."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from rewind.errors import StoreDamaged
from rewind.events import Event, decode_event, own_id_position, own_id_prefix

if TYPE_CHECKING:
    from rewind.backends.blocks import Block
    from rewind.backends.contract import Backend

_PAGE = 1_000  # records of a check held at a time
_PAGE_BYTES = 4 * 1024 * 1024


def records_of(found: Iterable[Block], after: int, until: int, backwards: bool) -> Iterator[bytes]:
    """The records of these blocks with ``after < position <= until``, in their order."""
    for block in found:
        first, last = max(after + 1, block.first), min(until, block.last)
        for position in range(last, first - 1, -1) if backwards else range(first, last + 1):
            yield block.record(position)


def take_joined(
    found: Iterable[Block], after: int, until: int, limit: int, bytes_max: int
) -> tuple[int, list[bytes]]:
    """As ``take``, of consecutive blocks, whose records are not looked at one by one."""
    pieces: list[bytes] = []
    count = size = 0
    for block in found if limit > 0 else ():
        first = max(after + 1, block.first)
        last = min(until, block.last, first + limit - count - 1)
        start = block.ends[first - block.first - 1] if first > block.first else 0
        room = start + bytes_max - size
        if block.ends[last - block.first] > room:
            last = block.first + bisect_right(block.ends, room) - 1
            if last < first and not pieces:
                last = first
            limit = count + last - first + 1  # these are the last
        if last >= first:
            pieces.append(block.joined(first, last))
            count += last - first + 1
            size += len(pieces[-1])
        if count == limit:
            break
    return count, pieces


def check_records(backend: Backend) -> Iterator[str]:
    """Read everything by position, and find each event again by its stream and its id.

    Yields a line for each thing that is not as it must be.
    """
    head, last_time = backend.last()
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
    made = own_id_position(prefix, event.id_bytes)
    if made is None:
        made = backend.positions([event.id_bytes]).get(event.id_bytes)
    if made != position:
        yield f"id {event.id} leads to position {made}, not {position}"


def _check_streams(backend: Backend) -> Iterator[str]:
    after = ""
    counted = 0
    while page := backend.streams("", after, _PAGE):
        for name, version in page:
            counted += version
            try:
                found = backend.read_stream(name, version - 1, version + 1, 2, _PAGE_BYTES)
            except StoreDamaged as damage:
                yield str(damage)
                continue
            if len(found) != 1:
                yield f"stream {name!r} says version {version}, but its events do not end there"
        after = page[-1][0]
    if counted != backend.last()[0]:
        yield f"the streams count {counted} events, the store {backend.last()[0]}"
